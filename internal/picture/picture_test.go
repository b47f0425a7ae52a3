package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"testing"

	"github.com/mobilecred/mobilecred/internal/credential"
)

func encodeJPEG(t *testing.T, p image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := jpeg.Encode(&out, p, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func encodePNG(t *testing.T, p image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, p); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// corners paints the quarters of a picture: red, green, blue, white, from top left to bottom right.
func corners(w, h int) *image.RGBA {
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			p.Set(x, y, []color.Color{red, green, blue, white}[x*2/w+y*2/h*2])
		}
	}
	return p
}

var (
	red   = color.RGBA{255, 0, 0, 255}
	green = color.RGBA{0, 255, 0, 255}
	blue  = color.RGBA{0, 0, 255, 255}
	white = color.RGBA{255, 255, 255, 255}
)

func noise(w, h int) *image.RGBA {
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range p.Pix {
		p.Pix[i] = byte(random.Uint32()) | 1
	}
	return p
}

// withOrientation puts an EXIF segment in front of a JPEG's others.
func withOrientation(data []byte, order binary.AppendByteOrder, mark string, o uint16) []byte {
	tiff := append([]byte(mark), order.AppendUint32(nil, 8)...)
	tiff = order.AppendUint16(tiff, 2)
	tiff = append(tiff, order.AppendUint16(nil, 0x010f)...) // another tag first
	tiff = append(tiff, make([]byte, 10)...)
	tiff = order.AppendUint16(tiff, 0x0112)
	tiff = order.AppendUint16(tiff, 3)
	tiff = order.AppendUint32(tiff, 1)
	tiff = order.AppendUint16(tiff, o)
	tiff = append(tiff, 0, 0)
	segment := append([]byte("Exif\x00\x00"), tiff...)
	out := append([]byte{0xff, 0xd8, 0xff, 0xe1}, binary.BigEndian.AppendUint16(nil, uint16(len(segment)+2))...)
	return append(append(out, segment...), data[2:]...)
}

func near(c color.Color, want color.RGBA) bool {
	r, g, b, _ := c.RGBA()
	off := func(a uint32, b uint8) bool { d := int(a>>8) - int(b); return d < -40 || d > 40 }
	return !off(r, want.R) && !off(g, want.G) && !off(b, want.B)
}

func decode(t *testing.T, p credential.Picture) image.Image {
	t.Helper()
	if p.ContentType != "image/jpeg" || len(p.Hash) != 64 || len(p.Data) >= MaxStored {
		t.Fatalf("got %s, hash %q, %d bytes", p.ContentType, p.Hash, len(p.Data))
	}
	out, err := jpeg.Decode(bytes.NewReader(p.Data))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStoredPictureIsASmallJPEG(t *testing.T) {
	transparent := image.NewNRGBA(image.Rect(0, 0, 20, 20))
	for name, test := range map[string]struct {
		data []byte
		w, h int
	}{
		"landscape":       {encodeJPEG(t, corners(1600, 800)), 600, 300},
		"portrait":        {encodePNG(t, corners(300, 1200)), 150, 600},
		"small stays":     {encodePNG(t, corners(40, 30)), 40, 30},
		"a line":          {encodePNG(t, image.NewRGBA(image.Rect(0, 0, 5000, 1))), 600, 1},
		"grey":            {encodeJPEG(t, image.NewGray(image.Rect(0, 0, 700, 700))), 600, 600},
		"16 bits":         {encodePNG(t, image.NewNRGBA64(image.Rect(0, 0, 700, 700))), 600, 600},
		"noise":           {encodePNG(t, noise(900, 900)), 600, 600},
		"noise, unscaled": {encodePNG(t, noise(600, 600)), 600, 600},
		"transparent":     {encodePNG(t, transparent), 20, 20},
		"damaged EXIF":    {withOrientation(encodeJPEG(t, corners(40, 30)), binary.BigEndian, "XX\x00*", 6), 40, 30},
		"orientation 9":   {withOrientation(encodeJPEG(t, corners(40, 30)), binary.BigEndian, "MM\x00*", 9), 40, 30},
		"longest side":    {encodePNG(t, image.NewGray(image.Rect(0, 0, 10000, 300))), 600, 18},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Normalize(test.data)
			if err != nil {
				t.Fatal(err)
			}
			if b := decode(t, p).Bounds(); b.Dx() != test.w || b.Dy() != test.h {
				t.Errorf("got %dx%d, want %dx%d", b.Dx(), b.Dy(), test.w, test.h)
			}
		})
	}
}

func TestTheSameUploadHasTheSameHash(t *testing.T) {
	data := encodeJPEG(t, corners(80, 40))
	a, errA := Normalize(data)
	b, errB := Normalize(data)
	c, errC := Normalize(encodeJPEG(t, corners(40, 80)))
	if errA != nil || errB != nil || errC != nil || a.Hash != b.Hash || a.Hash == c.Hash {
		t.Errorf("%s, %s, %s; %v, %v, %v", a.Hash, b.Hash, c.Hash, errA, errB, errC)
	}
}

func TestTransparencyBecomesWhite(t *testing.T) {
	p, err := Normalize(encodePNG(t, image.NewNRGBA(image.Rect(0, 0, 700, 20))))
	if err != nil {
		t.Fatal(err)
	}
	if c := decode(t, p).At(5, 5); !near(c, white) {
		t.Errorf("got %v", c)
	}
}

// Each case names the colours of the upright picture's corners, when its stored corners are red, green, blue and white.
func TestOrientationIsHonoured(t *testing.T) {
	for o, want := range map[uint16][4]color.RGBA{
		1: {red, green, blue, white},
		2: {green, red, white, blue},
		3: {white, blue, green, red},
		4: {blue, white, red, green},
		5: {red, blue, green, white},
		6: {blue, red, white, green},
		7: {white, green, blue, red},
		8: {green, white, red, blue},
	} {
		for mark, order := range map[string]binary.AppendByteOrder{"MM\x00*": binary.BigEndian,
			"II*\x00": binary.LittleEndian} {
			p, err := Normalize(withOrientation(encodeJPEG(t, corners(80, 40)), order, mark, o))
			if err != nil {
				t.Fatal(err)
			}
			got := decode(t, p)
			w, h := 80, 40
			if o >= 5 {
				w, h = 40, 80
			}
			if b := got.Bounds(); b.Dx() != w || b.Dy() != h {
				t.Fatalf("orientation %d: got %v", o, b)
			}
			for i, at := range []image.Point{{w / 4, h / 4}, {w * 3 / 4, h / 4}, {w / 4, h * 3 / 4},
				{w * 3 / 4, h * 3 / 4}} {
				if c := got.At(at.X, at.Y); !near(c, want[i]) {
					t.Errorf("orientation %d (%q): corner %d is %v, want %v", o, mark, i, c, want[i])
				}
			}
		}
	}
}

func TestMetadataIsStripped(t *testing.T) {
	p, err := Normalize(withOrientation(encodeJPEG(t, corners(40, 30)), binary.BigEndian, "MM\x00*", 1))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(p.Data, []byte("Exif")) {
		t.Error("EXIF is still there")
	}
}

// claiming writes the head of a PNG that claims a size it has no pixels for.
func claiming(w, h uint32) []byte {
	head := []byte("IHDR")
	head = binary.BigEndian.AppendUint32(head, w)
	head = binary.BigEndian.AppendUint32(head, h)
	head = append(head, 8, 6, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	out = append(out, head...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(head))
}

func TestWhatIsRefused(t *testing.T) {
	whole := encodeJPEG(t, corners(400, 400))
	wholePNG := encodePNG(t, noise(100, 100))
	for name, test := range map[string]struct {
		data []byte
		code string
	}{
		"nothing":           {nil, "invalid_format"},
		"text":              {[]byte("hello"), "invalid_format"},
		"GIF":               {[]byte("GIF89a\x01\x00\x01\x00\x80\x00\x00"), "invalid_format"},
		"SVG":               {[]byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), "invalid_format"},
		"truncated JPEG":    {whole[:len(whole)/2], "invalid_format"},
		"truncated PNG":     {wholePNG[:len(wholePNG)/2], "invalid_format"},
		"head of a JPEG":    {whole[:3], "invalid_format"},
		"most pixels":       {claiming(5000, 4000), "invalid_format"}, // for lack of them only
		"bomb, area":        {claiming(5000, 4001), "too_large"},
		"bomb, side":        {claiming(10001, 1), "too_large"},
		"bomb, overflowing": {claiming(1<<31-1, 1<<31-1), "invalid_format"},
		"no pixels":         {claiming(0, 0), "invalid_format"},
		"no data":           {claiming(10, 10), "invalid_format"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Normalize(test.data)
			var refusal *credential.Error
			if !errors.As(err, &refusal) || refusal.Code != credential.CodeValidationFailed ||
				refusal.Fields[0].Code != test.code {
				t.Errorf("got %v, want %s", err, test.code)
			}
		})
	}
}

func FuzzNormalizeNeverPanics(f *testing.F) {
	var small bytes.Buffer
	if err := jpeg.Encode(&small, corners(8, 8), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(withOrientation(small.Bytes(), binary.BigEndian, "MM\x00*", 6))
	f.Add(claiming(10, 10))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Normalize(data)
		if err == nil && len(p.Data) >= MaxStored {
			t.Errorf("%d bytes", len(p.Data))
		}
	})
}
