// Package picture turns the photograph that a portal uploads into the one form mobilecred stores: an upright JPEG of at
// most Side pixels and MaxStored bytes, with no metadata.
//
// What belongs here is what needs image decoders, so that only the function that stores pictures links them. What does
// not: HTTP and storage. The size of an upload and its content type are checked before (webapi).
package picture

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"image/color"
	"image/jpeg"
	_ "image/png" // the other format that is read
	"runtime"

	"golang.org/x/image/draw"

	"github.com/mobilecred/mobilecred/internal/credential"
)

const (
	// Side is the longest side of a stored picture, in pixels: enough for a badge on any phone, and half of what HID
	// takes (up to 1242 by 1242, release notes of Credential Management 3.3.1).
	Side = 600
	// MaxStored is what a stored picture stays under, in bytes; half of what an item of the table holds.
	MaxStored = 200_000

	// A few kilobytes can claim any number of pixels, and all of them are held in memory (a progressive JPEG at up to
	// 15 bytes each) before the first is scaled.
	maxPixels = 20_000_000
	maxSide   = 10_000
)

// Normalize decodes a JPEG or PNG, turns it upright as its EXIF orientation says, scales it down to Side, and encodes
// it anew; what is transparent becomes white. Hash is the SHA-256 of the result, in hex, and equal for equal uploads.
// HolderID is left empty.
//
// It refuses with credential.CodeValidationFailed what is neither format, is damaged, or has more than 20 million
// pixels.
func Normalize(data []byte) (credential.Picture, error) {
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || config.Width <= 0 || config.Height <= 0 {
		return credential.Picture{}, unreadable()
	}
	if config.Width > maxSide || config.Height > maxSide || config.Width*config.Height > maxPixels {
		return credential.Picture{}, credential.Invalid(credential.FieldError{
			Code: "too_large", Detail: "The picture has more than 20 million pixels, or more than 10000 on one side."})
	}
	if config.Width*config.Height > maxPixels/8 {
		// A function keeps its memory between invocations. Without this, the picture of the invocation before could
		// still be in memory beside this one.
		runtime.GC()
	}
	source, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return credential.Picture{}, unreadable()
	}
	o := upright
	if format == "jpeg" {
		o = orientation(data)
	}
	encoded, err := encode(o.apply(scale(source)))
	if err != nil {
		return credential.Picture{}, err
	}
	sum := sha256.Sum256(encoded)
	return credential.Picture{ContentType: "image/jpeg", Data: encoded, Hash: hex.EncodeToString(sum[:])}, nil
}

func unreadable() error {
	return credential.Invalid(credential.FieldError{Code: "invalid_format",
		Detail: "The body is not a JPEG or PNG picture that can be read whole."})
}

// scale copies a picture onto white, no side longer than Side; a smaller one keeps its size.
func scale(source image.Image) *image.RGBA {
	b := source.Bounds()
	w, h := b.Dx(), b.Dy()
	if long := max(w, h); long > Side {
		w, h = max(1, w*Side/long), max(1, h*Side/long)
	}
	scaled := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(scaled, scaled.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	if w == b.Dx() && h == b.Dy() {
		draw.Draw(scaled, scaled.Bounds(), source, b.Min, draw.Over)
	} else {
		draw.CatmullRom.Scale(scaled, scaled.Bounds(), source, b, draw.Over, nil)
	}
	return scaled
}

// encode lowers the quality until the result is small enough. A picture of Side by Side pixels always gets there: at
// the lowest quality even noise takes less than half a byte per pixel.
func encode(p image.Image) ([]byte, error) {
	var out bytes.Buffer
	for quality := 90; ; quality -= 10 {
		out.Reset()
		if err := jpeg.Encode(&out, p, &jpeg.Options{Quality: quality}); err != nil {
			return nil, err
		}
		if out.Len() < MaxStored || quality <= 10 {
			return out.Bytes(), nil
		}
	}
}
