// Package address says which e-mail addresses are taken, and how one is written to the mail service.
//
// What belongs here is the form of an address. What does not: whether a mailbox stands behind it, and where it is
// stored or shown, which is as the portal gave it.
package address

import (
	"errors"
	"net/mail"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// The errors of ForMail. They never hold the address.
var (
	// ErrForm: it is not one plain address, without a name, of at most 254 bytes.
	ErrForm = errors.New("not an e-mail address")
	// ErrLocalPart: what is before the @ is not in ASCII. Only a mail service that speaks SMTPUTF8 (RFC 6531) can send
	// to such an address, and SES does not.
	ErrLocalPart = errors.New("an e-mail address whose local part is not in ASCII")
	// ErrDomain: the domain is in another script, and cannot be written in punycode (RFC 5891).
	ErrDomain = errors.New("an e-mail address whose domain is no international domain name")
)

// domain is at least two labels, in ASCII or any other script.
var domain = func() *regexp.Regexp {
	const edge = `[\p{L}\p{M}\p{Nd}]`
	const label = edge + `([\p{L}\p{M}\p{Nd}-]{0,61}` + edge + `)?`
	return regexp.MustCompile(`^(` + label + `\.)+` + label + `$`)
}()

// The bounds of SMTP and DNS, in bytes.
const (
	maxAddress = 254
	maxLocal   = 64
	maxDomain  = 253
	maxLabel   = 63
)

// ForMail returns an address as the mail service takes it: a domain in another script becomes punycode (ä.example is
// xn--4ca.example), and one in ASCII stays as it is. ErrForm, ErrLocalPart or ErrDomain: it is no address that mail can
// be sent to.
func ForMail(s string) (string, error) {
	parsed, err := mail.ParseAddress(s)
	if err != nil || parsed.Address != s || parsed.Name != "" || len(s) > maxAddress {
		return "", ErrForm
	}
	at := strings.LastIndexByte(s, '@')
	local, host := s[:at], s[at+1:]
	if !isASCII(local) {
		return "", ErrLocalPart
	}
	if len(local) > maxLocal || !domain.MatchString(host) {
		return "", ErrForm
	}
	if isASCII(host) {
		return s, nil
	}
	host, err = idna.Lookup.ToASCII(host)
	if err != nil || len(host) > maxDomain || len(local)+1+len(host) > maxAddress {
		return "", ErrDomain
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) > maxLabel {
			return "", ErrDomain
		}
	}
	return local + "@" + host, nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}
