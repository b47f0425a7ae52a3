package webapi

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mobilecred/mobilecred/internal/address"
)

// line allows up to most characters, without control characters, line separators, marks that change the direction of
// writing, or U+FFFD, which stands for bytes that are not UTF-8.
func line(most int) rule {
	return rule{code: "invalid_text", detail: "Must be one line of at most " + strconv.Itoa(most) +
		" characters, without control characters.", holds: func(s string) bool {
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
	return rule{code: "unknown_value", detail: "Must be one of " + strings.Join(words, ", ") + ".",
		holds: func(s string) bool { return slices.Contains(words, s) }}
}

func matching(pattern, detail string) rule {
	return rule{code: "invalid_format", detail: detail, holds: regexp.MustCompile(pattern).MatchString}
}

var (
	isID = rule{code: "invalid_format", detail: "Must be " + idRule, holds: idPattern.MatchString}
	// Without #, because part numbers become parts of keys that are joined by it.
	isPartNumber = matching(`^[!"$-~]{1,100}$`, "Must be 1 to 100 printable ASCII characters without spaces and #.")
	isLocale     = matching(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}$`, "Must be a language tag such as en or de-CH.")
	isColor      = matching(`^#[0-9A-Fa-f]{6}$`, "Must be a colour such as #1a2b3c.")
	isEmail      = rule{code: "invalid_format", why: wrongEmail}
	isLink       = rule{code: "invalid_format", detail: "Must be an absolute https URL of at most 2048 characters.",
		holds: validLink}
	isTimeZone = rule{code: "invalid_format",
		detail: "Must be a time zone of the IANA database, such as Europe/Zurich.", holds: validTimeZone}
)

// wrongEmail says what is wrong with an e-mail address, or "" for one that mail can be sent to.
func wrongEmail(s string) string {
	switch _, err := address.ForMail(s); {
	case err == nil:
		return ""
	case errors.Is(err, address.ErrLocalPart):
		return "The part before the @ must be in ASCII; other scripts are supported in the domain only."
	case errors.Is(err, address.ErrDomain):
		return "The domain is in another script, and is no international domain name (IDNA)."
	}
	return "Must be an e-mail address, without a name, of at most 254 bytes."
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
