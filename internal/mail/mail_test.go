package mail_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
)

var deadline = time.Date(2030, 1, 31, 17, 0, 0, 0, time.UTC)

// invitation is a holder, a profile and a credential that is waiting for its mail.
func invitation() (credential.Holder, credential.Profile, credential.Credential) {
	until := deadline
	return credential.Holder{ID: "E-1", FirstName: "Ada", LastName: "Lovelace", Email: "ada@example.com"},
		credential.Profile{
			ID: "hq", Name: "HQ employees", Locale: "de-CH", TimeZone: "Europe/Zurich",
			App: credential.App{Name: "HID Mobile Access"}, Sender: credential.Sender{Company: "Acme"},
		},
		credential.Credential{ID: "c1", HolderID: "E-1", ProfileName: "HQ employees",
			Mobile:     &credential.MobileID{ID: "P:56", Number: "56"},
			Invitation: credential.Invitation{Code: "ABCD-EFGH", ExpiresAt: &until}}
}

func TestALetterSaysWhatTheInvitationNeeds(t *testing.T) {
	h, p, c := invitation()
	l := mail.NewLetter(h, p, c)
	want := mail.Letter{
		HolderFirstName: "Ada", HolderLastName: "Lovelace", To: "ada@example.com", ProfileName: "HQ employees",
		MobileIDName: c.Name(), App: p.App, Code: "ABCD-EFGH", ExpiresAt: deadline, Locale: "de-CH",
		TimeZone: "Europe/Zurich", Sender: p.Sender, HolderID: "E-1", CredentialID: "c1",
	}
	if l != want {
		t.Errorf("got %#v\nwant %#v", l, want)
	}
	if c.Invitation.ExpiresAt = nil; !mail.NewLetter(h, p, c).ExpiresAt.IsZero() {
		t.Error("a deadline that is not known yet is told")
	}
}

func TestTheHoldersLanguageAndTimeZoneComeBeforeTheProfiles(t *testing.T) {
	h, p, c := invitation()
	h.Locale = "fr-CA"
	if l := mail.NewLetter(h, p, c); l.Locale != "fr-CA" || l.TimeZone != "Europe/Zurich" {
		t.Errorf("%s, %s", l.Locale, l.TimeZone)
	}
	h.Locale, h.TimeZone = "", "America/Toronto"
	if l := mail.NewLetter(h, p, c); l.Locale != "de-CH" || l.TimeZone != "America/Toronto" {
		t.Errorf("%s, %s", l.Locale, l.TimeZone)
	}
}

func TestAPrintedLetterDoesNotShowItsCode(t *testing.T) {
	l := mail.NewLetter(invitation())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, l); strings.Contains(text, "ABCD") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}
