package ses

import (
	"math"
	"regexp"
	"strconv"
)

const defaultColor = "#1f5fbf"

var hexColor = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// brand returns a profile's colour as a background, and the text colour that can be read on it; anything but #rrggbb
// gives the default.
func brand(color string) (background, text string) {
	if !hexColor.MatchString(color) {
		color = defaultColor
	}
	// Contrast against white is 1.05/(L+0.05), against black (L+0.05)/0.05 (WCAG 2); the better of the two is always
	// above 4.5.
	if l := luminance(color) + 0.05; l*l > 1.05*0.05 {
		return color, "#000000"
	}
	return color, "#ffffff"
}

// luminance is the relative luminance of #rrggbb as WCAG 2 defines it, 0 to 1.
func luminance(color string) float64 {
	var l float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, _ := strconv.ParseUint(color[1+2*i:3+2*i], 16, 8) // hexColor matched
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}
