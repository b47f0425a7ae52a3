package issuance

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// personHash identifies what a provider was told of a holder without repeating it.
func personHash(h credential.Holder) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{h.ID, h.FirstName, h.LastName, h.Email}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// maskEmail keeps the first letter and the domain: enough to recognise an address, not to write to it.
func maskEmail(email string) string {
	at := strings.LastIndexByte(email, '@')
	if at < 1 {
		return "…"
	}
	for i := range email {
		if i > 0 {
			return email[:i] + "…" + email[at:]
		}
	}
	return "…"
}

// codeHint is the end of an invitation code, for a person to compare.
func codeHint(code credential.Secret) string {
	text := code.Reveal()
	if len(text) < 8 {
		return ""
	}
	return "…" + text[len(text)-4:]
}
