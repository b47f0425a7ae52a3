package ses_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/mail/ses"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

const code = "BPEX-LQTC-4E33-QT6N"

// full is a letter with everything in it.
func full() mail.Letter {
	logo := "https://acme.example/logo.png"
	return mail.Letter{
		HolderFirstName: "Ada",
		HolderLastName:  "Lovelace",
		To:              "ada@example.com",
		ProfileName:     "HQ employees",
		MobileIDName:    "HQ employees #56",
		App: credential.App{
			Name:      "HID Mobile Access",
			AppleURL:  "https://apps.apple.com/app/hid-mobile-access/id924595720",
			GoogleURL: "https://play.google.com/store/apps/details?id=com.hidglobal.mobilekeys.android.v3",
		},
		Code:      code,
		ExpiresAt: time.Date(2026, 3, 3, 16, 30, 0, 0, time.UTC),
		Locale:    "en-US",
		TimeZone:  "Europe/Zurich",
		Sender: credential.Sender{
			Name:    "Acme Security",
			ReplyTo: "badges@acme.example",
			Company: "Acme",
			LogoURL: &logo,
			Color:   "#0a7d5a",
			Support: "badges@acme.example",
		},
		HolderID:     "E-1042",
		CredentialID: "c7Jq0",
	}
}

// bare is a letter with only what is required.
func bare() mail.Letter {
	return mail.Letter{To: "ada@example.com", Code: code, ExpiresAt: full().ExpiresAt}
}

func render(t *testing.T, inv mail.Letter) ses.Message {
	t.Helper()
	m, err := ses.Render(inv)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestGolden(t *testing.T) {
	french := full()
	french.Locale = "fr-CA"
	french.TimeZone = "America/Toronto"
	french.Sender.LogoURL = nil
	french.Sender.Color = "#ffd100"
	french.Sender.Support = "+1 514 555 0100"
	for name, inv := range map[string]mail.Letter{"full-en": full(), "no-logo-fr": french, "bare-en": bare()} {
		t.Run(name, func(t *testing.T) {
			m := render(t, inv)
			golden(t, name+".html", m.HTML)
			golden(t, name+".txt", "Subject: "+m.Subject+"\n\n"+m.Text)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the mail differs from %s; run go test ./internal/mail -update and look at the change\ngot:\n%s", path,
			got)
	}
}

func TestBothPartsSayAllThatIsNeeded(t *testing.T) {
	for _, locale := range []string{"en", "fr", "de", "es"} {
		t.Run(locale, func(t *testing.T) {
			inv := full()
			inv.Locale = locale
			m := render(t, inv)
			for part, text := range map[string]string{"HTML": m.HTML, "text": m.Text} {
				for _, want := range []string{code, "Ada Lovelace", inv.MobileIDName, inv.App.Name, inv.App.AppleURL,
					"Google Play", "App Store", "Acme", inv.Sender.Support, "2026"} {
					if !strings.Contains(text, want) {
						t.Errorf("the %s part lacks %q", part, want)
					}
				}
				if strings.Contains(text, "%!") || strings.Contains(text, "ZgotmplZ") {
					t.Errorf("the %s part has a hole", part)
				}
			}
			if !strings.Contains(m.Text, inv.App.GoogleURL) || !strings.Contains(m.HTML, inv.App.GoogleURL) {
				t.Error("the Google link is missing")
			}
			if !strings.Contains(m.HTML, `<html lang="`+locale+`"`) {
				t.Error("the language is not declared")
			}
			if strings.Contains(m.Subject, code) || !strings.HasPrefix(m.Subject, "Acme") {
				t.Errorf("subject %q", m.Subject)
			}
			wellFormed(t, m.HTML)
		})
	}
}

func TestTheBareMailHasNoHoles(t *testing.T) {
	for _, locale := range []string{"en", "fr", "de", "es"} {
		inv := bare()
		inv.Locale = locale
		m := render(t, inv)
		wellFormed(t, m.HTML)
		for part, text := range map[string]string{"HTML": m.HTML, "text": m.Text} {
			if !strings.Contains(text, code) {
				t.Errorf("%s: the %s part lacks the code", locale, part)
			}
			for _, hole := range []string{"<a ", "<img", "  ,", "%!", "()", "https://"} {
				if strings.Contains(text, hole) {
					t.Errorf("%s: the %s part holds %q", locale, part, hole)
				}
			}
		}
		if strings.Contains(m.Text, "\n\n\n") {
			t.Errorf("%s: a gap in the text part:\n%s", locale, m.Text)
		}
	}
}

func TestWithoutCodeOrExpiryThereIsNoMail(t *testing.T) {
	for name, spoil := range map[string]func(*mail.Letter){
		"no code":    func(i *mail.Letter) { i.Code = "" },
		"blank code": func(i *mail.Letter) { i.Code = " \r\n" },
		"no expiry":  func(i *mail.Letter) { i.ExpiresAt = time.Time{} },
	} {
		inv := full()
		spoil(&inv)
		if m, err := ses.Render(inv); err == nil {
			t.Errorf("%s: rendered %q", name, m.Subject)
		} else if strings.Contains(err.Error(), code) || strings.Contains(err.Error(), inv.To) {
			t.Errorf("%s: error %q tells a secret", name, err)
		}
	}
}

func TestHostileTextStaysText(t *testing.T) {
	const (
		script   = `<script>alert(1)</script>`
		attr     = `" onmouseover="alert(2)`
		newlines = "Ada\r\nBcc: eve@example.com\r\n\r\n<b>x</b>\u2028y\x00"
		reversed = "\u202egnp.exe\u2066"
	)
	for _, nasty := range []string{script, attr, newlines, reversed, "{{code}}{{/help}}", "%s%d", "\xff\xfe"} {
		inv := full()
		inv.HolderFirstName, inv.HolderLastName = nasty, nasty
		inv.ProfileName, inv.MobileIDName, inv.App.Name = nasty, nasty, nasty
		inv.Sender.Company, inv.Sender.Name, inv.Sender.Support, inv.Sender.Color = nasty, nasty, nasty, nasty
		inv.App.AppleURL, inv.App.GoogleURL, inv.Sender.LogoURL = nasty, nasty, &nasty
		m := render(t, inv)
		wellFormed(t, m.HTML)
		for _, bad := range []string{"<script", ` onmouseover="`, "<b>x", "\u202e", "\u2066", "\u2028", "\x00", "\r",
			"\nBcc:", "%!", "\xff"} {
			if strings.Contains(m.HTML, bad) {
				t.Errorf("%q left %q in the HTML part", nasty, bad)
			}
		}
		for _, bad := range []string{"\u202e", "\u2066", "\u2028", "\x00", "\r", "\nBcc:", "%!", "\xff"} {
			if strings.Contains(m.Text, bad) {
				t.Errorf("%q left %q in the text part", nasty, bad)
			}
		}
		if strings.ContainsAny(m.Subject, "\r\n\x00\u2028") {
			t.Errorf("subject of several lines: %q", m.Subject)
		}
		if strings.Count(m.HTML, code) != 1 || strings.Count(m.Text, code) != 1 {
			t.Errorf("%q: the code is not there once in each part", nasty)
		}
	}
}

func TestOnlySecureLinksAreKept(t *testing.T) {
	for _, link := range []string{"javascript:alert(1)", "http://apps.example", "//apps.example", "https://",
		"https://user:pw@apps.example", "data:text/html,x", "apps.example"} {
		inv := full()
		inv.App.AppleURL, inv.App.GoogleURL, inv.Sender.LogoURL, inv.Sender.Support = link, link, &link, link
		m := render(t, inv)
		if strings.Contains(m.HTML, "href=") || strings.Contains(m.HTML, "<img") {
			t.Errorf("%s became a link or picture", link)
		}
	}
}

func TestOneStoreIsEnough(t *testing.T) {
	inv := full()
	inv.App.AppleURL = ""
	m := render(t, inv)
	for part, text := range map[string]string{"HTML": m.HTML, "text": m.Text} {
		if strings.Contains(text, "App Store") || !strings.Contains(text, "Google Play") {
			t.Errorf("the %s part offers another store than Google's", part)
		}
	}
}

func TestSupportIsALinkWhenItCanBe(t *testing.T) {
	for support, want := range map[string]string{
		"help@acme.example":          `href="mailto:help@acme.example"`,
		"https://acme.example/help":  `href="https://acme.example/help"`,
		"+41 44 555 01 00":           `href="tel:+41445550100"`,
		"(044) 555-01.00":            `href="tel:0445550100"`,
		"the reception, extension 5": "",
		"Ada <ada@acme.example>":     "",
		"12":                         "",
	} {
		inv := full()
		inv.App.AppleURL, inv.App.GoogleURL, inv.Sender.Support = "", "", support
		m := render(t, inv)
		links := regexp.MustCompile(`href="[^"]*"`).FindAllString(m.HTML, -1)
		if got := strings.Join(links, " "); got != want {
			t.Errorf("%s: link %s, want %s", support, got, want)
		}
		if !strings.Contains(m.Text, support) {
			t.Errorf("%s is not in the text part", support)
		}
	}
	inv := full()
	inv.Sender.Support = ""
	if m := render(t, inv); !strings.Contains(m.Text, "Reply to this e-mail") {
		t.Error("without a support contact the mail does not offer to reply")
	}
}

func TestExpiryIsToldInTheHoldersWordsAndZone(t *testing.T) {
	at := time.Date(2026, 3, 1, 23, 30, 0, 0, time.UTC)
	tests := []struct{ locale, zone, want string }{
		{"en-US", "America/New_York", "Sunday, March 1, 2026 at 6:30 PM (UTC−5)"},
		{"en", "Asia/Kolkata", "Monday, March 2, 2026 at 5:00 AM (UTC+5:30)"},
		{"fr-CA", "America/St_Johns", "dimanche 1er mars 2026 à 20\u00a0h\u00a000 (UTC−3:30)"},
		{"fr_FR", "Europe/Paris", "lundi 2 mars 2026 à 0\u00a0h\u00a030 (UTC+1)"},
		{"DE-ch", "Europe/Zurich", "Montag, 2. März 2026, 00:30 Uhr (UTC+1)"},
		{"es-MX", "America/Mexico_City", "domingo, 1 de marzo de 2026, 17:30 h (UTC−6)"},
		{"pt-BR", "UTC", "Sunday, March 1, 2026 at 11:30 PM (UTC)"},
		{"", "", "Sunday, March 1, 2026 at 11:30 PM (UTC)"},
		{"en", "Middle/Earth", "Sunday, March 1, 2026 at 11:30 PM (UTC)"},
		{"en", "Local", "Sunday, March 1, 2026 at 11:30 PM (UTC)"},
	}
	for _, tt := range tests {
		inv := full()
		inv.Locale, inv.TimeZone, inv.ExpiresAt = tt.locale, tt.zone, at
		m := render(t, inv)
		if !strings.Contains(m.Text, tt.want) {
			t.Errorf("%s in %s: no %q in\n%s", tt.locale, tt.zone, tt.want, m.Text)
		}
		if !strings.Contains(m.HTML, tt.want) {
			t.Errorf("%s in %s: no %q in the HTML part", tt.locale, tt.zone, tt.want)
		}
	}
}

func TestTextOnTheBrandColourCanBeRead(t *testing.T) {
	for color, want := range map[string]string{
		"#000000": "#ffffff", "#ffffff": "#000000", "#ffd100": "#000000", "#0a7d5a": "#ffffff", "#FF0000": "#000000",
		"#1f5fbf": "#ffffff",
		// Not a colour: the default, and nothing of the text reaches a style.
		"red": "#ffffff", "#fff": "#ffffff", "#12345g": "#ffffff", "#000000;x:y": "#ffffff", "": "#ffffff",
		"\n#000000": "#ffffff",
	} {
		inv := full()
		inv.Sender.Color = color
		m := render(t, inv)
		button := regexp.MustCompile(
			`background-color:(#[0-9a-fA-F]{6});color:(#[0-9a-f]{6});font-size:15px;line-height:28px`)
		got := button.FindStringSubmatch(m.HTML)
		if got == nil || got[2] != want {
			t.Errorf("%q: text colour %v, want %s", color, got, want)
			continue
		}
		if valid := len(color) == 7 && color != "#12345g"; valid && got[1] != color || !valid && got[1] != "#1f5fbf" {
			t.Errorf("%q: background %s", color, got[1])
		}
	}
}

// wellFormed checks that every element is closed in order, which a browser would forgive and a mail program may not.
func wellFormed(t *testing.T, html string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(html))
	d.Entity = xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the HTML part is not well formed: %v", err)
		}
	}
}
