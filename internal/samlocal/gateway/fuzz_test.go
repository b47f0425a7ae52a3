package gateway

import (
	"strings"
	"testing"
)

// FuzzToken presents any text as a token: only one that the issuer signed is let through, whatever is added to it.
func FuzzToken(f *testing.F) {
	key, err := GenerateKey()
	if err != nil {
		f.Fatal(err)
	}
	issuer, err := NewIssuer(key, "https://issuer.example", "api")
	if err != nil {
		f.Fatal(err)
	}
	good, err := issuer.Token("portal", "credentials:read")
	if err != nil {
		f.Fatal(err)
	}
	head, _, _ := strings.Cut(good, ".")
	for _, seed := range []string{"", "Bearer", "Bearer ", "Bearer a.b.c", head + "..", "eyJhbGciOiJub25lIn0.e30.",
		"bearer " + head, "Basic eA==", ".", "\x00", "Bearer  eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if claims, err := issuer.verify(header); err == nil {
			t.Fatalf("%q is let through as %v", header, claims)
		}
		if claims, err := issuer.verify("Bearer " + good); err != nil || claims["sub"] != "portal" {
			t.Fatalf("a good token is refused: %v", err)
		}
		if strings.TrimSpace(header) != "" {
			if claims, err := issuer.verify("Bearer " + good + header); err == nil {
				t.Fatalf("a token with %q behind it is let through as %v", header, claims)
			}
		}
	})
}
