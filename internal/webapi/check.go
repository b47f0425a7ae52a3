package webapi

import (
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// line allows up to most characters, without control characters, line separators, marks that change the direction of
// writing, or U+FFFD, which stands for bytes that are not UTF-8.
func line(most int) rule {
	return rule{"invalid_text", "Must be one line of at most " + strconv.Itoa(most) +
		" characters, without control characters.", func(s string) bool {
		return utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
			return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) ||
				r == utf8.RuneError
		})
	}}
}

func oneOf[T ~string](values ...T) rule {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	return rule{"unknown_value", "Must be one of " + strings.Join(words, ", ") + ".",
		func(s string) bool { return slices.Contains(words, s) }}
}

func matching(pattern, detail string) rule {
	return rule{"invalid_format", detail, regexp.MustCompile(pattern).MatchString}
}

var (
	isID = rule{"invalid_format", "Must be " + idRule, idPattern.MatchString}
	// Without #, because part numbers become parts of keys that are joined by it.
	isPartNumber = matching(`^[!"$-~]{1,100}$`, "Must be 1 to 100 printable ASCII characters without spaces and #.")
	isLocale     = matching(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}$`, "Must be a language tag such as en or de-CH.")
	isColor      = matching(`^#[0-9A-Fa-f]{6}$`, "Must be a colour such as #1a2b3c.")
	isEmail      = rule{"invalid_format", "Must be an e-mail address, without a name, of at most 254 bytes.",
		validEmail}
	isLink     = rule{"invalid_format", "Must be an absolute https URL of at most 2048 characters.", validLink}
	isTimeZone = rule{"invalid_format", "Must be a time zone of the IANA database, such as Europe/Zurich.",
		validTimeZone}
)

// domain is at least two labels, in ASCII or any other script.
var domain = func() *regexp.Regexp {
	const edge = `[\p{L}\p{M}\p{Nd}]`
	const label = edge + `([\p{L}\p{M}\p{Nd}-]{0,61}` + edge + `)?`
	return regexp.MustCompile(`^(` + label + `\.)+` + label + `$`)
}()

func validEmail(s string) bool {
	address, err := mail.ParseAddress(s)
	if err != nil || address.Address != s || address.Name != "" || len(s) > 254 {
		return false
	}
	local, host, _ := strings.Cut(s, "@")
	ascii := !strings.ContainsFunc(local, func(r rune) bool { return r > unicode.MaxASCII })
	return ascii && len(local) <= 64 && domain.MatchString(host)
}

func validLink(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && len(s) <= 2048 &&
		!strings.ContainsAny(s, "\"<> ")
}

func validTimeZone(s string) bool {
	_, err := time.LoadLocation(s)
	return err == nil && s != "Local"
}

// needTimeZones stops a function that was linked without time/tzdata and runs where there is no database of time zones:
// it would refuse every zone but UTC.
func needTimeZones() {
	if !validTimeZone("Europe/Zurich") {
		panic("webapi: no time zones; import time/tzdata")
	}
}
