package picture

import (
	"bytes"
	"encoding/binary"
	"image"
)

// exifOrientation is how a camera was held, as EXIF numbers it: 1 to 8.
type exifOrientation uint16

const upright exifOrientation = 1

// apply turns and mirrors a picture so that it is seen as it was taken.
func (o exifOrientation) apply(p *image.RGBA) *image.RGBA {
	if o <= upright || o > 8 {
		return p
	}
	w, h := p.Bounds().Dx(), p.Bounds().Dy()
	if o >= 5 {
		w, h = h, w
	}
	turned := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			sx, sy := x, y // where pixel (x, y) of the upright picture is stored
			switch o {
			case 2:
				sx = w - 1 - x
			case 3:
				sx, sy = w-1-x, h-1-y
			case 4:
				sy = h - 1 - y
			case 5:
				sx, sy = y, x
			case 6:
				sx, sy = y, w-1-x
			case 7:
				sx, sy = h-1-y, w-1-x
			case 8:
				sx, sy = h-1-y, x
			}
			turned.SetRGBA(x, y, p.RGBAAt(sx, sy))
		}
	}
	return turned
}

// orientation reads the orientation from a JPEG's EXIF segment. A segment that is damaged or absent counts as upright:
// a picture on its side is better than none.
func orientation(data []byte) exifOrientation {
	const marker, startOfScan, app1 = 0xff, 0xda, 0xe1
	for at := 2; at+4 <= len(data); {
		if data[at] != marker {
			return upright
		}
		kind := data[at+1]
		if kind == marker { // padding
			at++
			continue
		}
		size := int(binary.BigEndian.Uint16(data[at+2:]))
		if kind == startOfScan || size < 2 || at+2+size > len(data) {
			return upright
		}
		segment := data[at+4 : at+2+size]
		if tiff, found := bytes.CutPrefix(segment, []byte("Exif\x00\x00")); kind == app1 && found {
			return tiffOrientation(tiff)
		}
		at += 2 + size
	}
	return upright
}

// tiffOrientation finds tag 0x0112 in the first directory of a TIFF structure.
func tiffOrientation(tiff []byte) exifOrientation {
	if len(tiff) < 8 {
		return upright
	}
	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return upright
	}
	const entrySize, tagOrientation, typeShort = 12, 0x0112, 3
	directory := int64(order.Uint32(tiff[4:]))
	if directory+2 > int64(len(tiff)) {
		return upright
	}
	entries := tiff[directory+2:]
	for range order.Uint16(tiff[directory:]) {
		if len(entries) < entrySize {
			return upright
		}
		if order.Uint16(entries) == tagOrientation && order.Uint16(entries[2:]) == typeShort {
			if o := exifOrientation(order.Uint16(entries[8:])); o >= 1 && o <= 8 {
				return o
			}
			return upright
		}
		entries = entries[entrySize:]
	}
	return upright
}
