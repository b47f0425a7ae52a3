// Package ses writes the invitation e-mail (rule R7) and hands it to Amazon SES.
//
// What belongs here: the words of each language, the templates, the escaping that makes foreign text safe in them, and
// what SES's answers say about whether a mail was sent. What does not: when a mail is due, how often it is tried, and
// what its fate does to a credential (issuance).
package ses

import (
	_ "embed"
	"errors"
	"fmt"
	"html"
	netmail "net/mail"
	"net/url"
	"strings"
	"time"
	"unicode"

	// Lambda's base image is not sure to hold the time zone database, and without it every deadline would be written in
	// UTC. It adds 450 kB.
	_ "time/tzdata"

	"github.com/mobilecred/mobilecred/internal/mail"
)

// Message is a rendered mail: a subject of one line, and the same content as HTML and as plain text.
type Message struct{ Subject, HTML, Text string }

var (
	//go:embed templates/invitation.html
	htmlPart string
	//go:embed templates/invitation.txt
	textPart string
)

// Render writes the mail of a letter. It fails only when the code or the deadline is missing, because the holder could
// not use such a mail.
func Render(letter mail.Letter) (Message, error) {
	code := oneLine(letter.Code.Reveal())
	if code == "" || letter.ExpiresAt.IsZero() {
		return Message{}, errors.New("mail: an invitation needs a code and an expiry")
	}
	w := wordsFor(letter.Locale)
	company := oneLine(letter.Sender.Company)
	subject, intro := w.title, w.intro
	if company != "" {
		subject, intro = company+w.colon+w.title, fmt.Sprintf(w.introCompany, company)
	}
	hello := w.hello
	if name := oneLine(letter.HolderFirstName + " " + letter.HolderLastName); name != "" {
		hello += " " + name
	}
	badge := oneLine(letter.MobileIDName)
	if badge == "" {
		badge = oneLine(letter.ProfileName)
	}
	app := oneLine(letter.App.Name)
	if app == "" {
		app = w.someApp
	}
	appleURL, googleURL := secureURL(letter.App.AppleURL), secureURL(letter.App.GoogleURL)
	install := w.install
	if appleURL == "" && googleURL == "" {
		install = w.installFromStore
	}
	help, support := "", oneLine(letter.Sender.Support)
	if support != "" {
		help = w.help
	} else if letter.Sender.ReplyTo != "" {
		help = w.helpReply
	}
	background, ink := brand(letter.Sender.Color)
	logo := ""
	if letter.Sender.LogoURL != nil {
		logo = secureURL(*letter.Sender.LogoURL)
	}

	values := map[string]string{
		"lang":        w.lang,
		"subject":     subject,
		"preheader":   fmt.Sprintf(w.preheader, app),
		"brand":       background,
		"brandText":   ink,
		"logo":        logo,
		"company":     company,
		"title":       w.title,
		"greeting":    hello + w.greetingEnd,
		"intro":       intro,
		"badgeLabel":  w.badgeLabel,
		"badge":       badge,
		"stepsTitle":  w.stepsTitle,
		"install":     fmt.Sprintf(install, app),
		"stores":      appleURL + googleURL,
		"apple":       appleURL,
		"appleLabel":  fmt.Sprintf(w.storeLabel, app, "App Store"),
		"google":      googleURL,
		"googleLabel": fmt.Sprintf(w.storeLabel, app, "Google Play"),
		"enter":       w.enter,
		"codeLabel":   w.codeLabel,
		"code":        code,
		"expiry":      fmt.Sprintf(w.expiry, w.date(letter.ExpiresAt.In(zone(letter.TimeZone)))),
		"secret":      w.secret,
		"wait":        w.wait,
		"help":        help,
		"support":     support,
		"supportURL":  supportURL(support),
		"unexpected":  w.unexpected,
		"automatic":   w.automatic,
	}
	return Message{
		Subject: subject,
		HTML:    expand(htmlPart, values, html.EscapeString),
		Text:    expand(textPart, values, func(s string) string { return s }),
	}, nil
}

// expand fills a template: {{name}} becomes the escaped value, {{#name}}…{{/name}} stays if the value is not empty and
// {{^name}}…{{/name}} if it is (a small part of Mustache). It panics at a name without a value, a mistake in the
// template.
//
// It is used in place of html/template because that package finds methods by name at run time: a program that links it
// keeps every method of every type, here 4 MB of AWS operations that are never called. What html/template does beyond
// escaping is not needed: every value stands in text or in a quoted attribute, and links and colours are checked
// before.
func expand(template string, values map[string]string, escape func(string) string) string {
	var out strings.Builder
	for {
		text, rest, found := strings.Cut(template, "{{")
		out.WriteString(text)
		if !found {
			return out.String()
		}
		tag, rest, _ := strings.Cut(rest, "}}")
		name := strings.TrimLeft(tag, "#^")
		value, known := values[name]
		if !known {
			panic("mail: no value for {{" + tag + "}}")
		}
		if name == tag {
			out.WriteString(escape(value))
		} else {
			var inner string
			inner, rest, _ = strings.Cut(rest, "{{/"+name+"}}")
			if (value != "") == (tag[0] == '#') {
				out.WriteString(expand(inner, values, escape))
			}
		}
		template = rest
	}
}

// oneLine makes foreign text fit into a header, a line and a sentence: line breaks and other control characters become
// spaces, and marks that reverse the direction of writing are removed, because they can make a text look like another.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return ' '
		case unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Join(strings.Fields(s), " ")
}

// secureURL returns s if it is an absolute https URL, else nothing: a link that cannot be trusted is left out.
func secureURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// supportURL makes a support contact clickable if it is one thing that can be clicked.
func supportURL(s string) string {
	if u := secureURL(s); u != "" {
		return u
	}
	if a, err := netmail.ParseAddress(s); err == nil && a.Address == s {
		return "mailto:" + url.PathEscape(s)
	}
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -./()", r) {
			return -1
		}
		return r
	}, s)
	if rest := strings.TrimPrefix(digits, "+"); len(rest) >= 5 && strings.Trim(rest, "0123456789") == "" {
		return "tel:" + digits
	}
	return ""
}

func zone(name string) *time.Location {
	// LoadLocation reads "Local" as the machine's own zone.
	if loc, err := time.LoadLocation(name); err == nil && name != "Local" {
		return loc
	}
	return time.UTC
}
