package address_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/address"
)

func TestForMail(t *testing.T) {
	for given, want := range map[string]any{
		"ada@example.com":                        "ada@example.com",
		"Ada.L+badge@EXAMPLE.com":                "Ada.L+badge@EXAMPLE.com",
		"ada@xn--exmple-cua.com":                 "ada@xn--exmple-cua.com",
		"x@exämple.com":                          "x@xn--exmple-cua.com",
		"X@EXÄMPLE.com":                          "X@xn--exmple-cua.com",
		"x@straße.example":                       "x@xn--strae-oqa.example",
		"x@mail.bücher.example":                  "x@mail.xn--bcher-kva.example",
		"x@例え.テスト":                               "x@xn--r8jz45g.xn--zckzah",
		"x@مثال.example":                         "x@xn--mgbh0fb.example",
		"ä@example.com":                          address.ErrLocalPart,
		"ädä@exämple.com":                        address.ErrLocalPart,
		"x@aא.example":                           address.ErrDomain, // both directions of writing in one label
		"x@\u0301a.example":                      address.ErrDomain, // begins with a mark
		"x@localhost":                            address.ErrForm,
		"x@ex_ämple.com":                         address.ErrForm,
		"x@ä..example":                           address.ErrForm,
		"x@-ä.example":                           address.ErrForm,
		"Ada <x@exämple.com>":                    address.ErrForm,
		"x@exämple.com, y@a.com":                 address.ErrForm,
		"x@exämple.com\r\nBcc: y":                address.ErrForm,
		`"a b"@exämple.com`:                      address.ErrForm,
		"x@[127.0.0.1]":                          address.ErrForm,
		"":                                       address.ErrForm,
		strings.Repeat("x", 65) + "@exämple.com": address.ErrForm,
		"x@" + strings.Repeat("ä.", 80) + "example":          address.ErrDomain, // too long only in punycode
		"x@" + strings.Repeat("äöüßàéîõ", 7) + "abc.example": address.ErrDomain, // a label that is too long in punycode
	} {
		got, err := address.ForMail(given)
		if wantErr, fails := want.(error); fails {
			if !errors.Is(err, wantErr) || got != "" {
				t.Errorf("%q: %q, %v, want %v", given, got, err, wantErr)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", given, got, err, want)
		}
	}
}
