package webapi

import (
	"github.com/mobilecred/mobilecred/internal/credential"
)

// newProfile holds the defaults of what a profile may leave out.
func newProfile() credential.Profile {
	return credential.Profile{
		App: credential.App{
			Name: "HID Mobile Access",
			// A search, not the app's number in the store: sources disagree on the number, and a wrong one would lead
			// to another app.
			AppleURL:  "https://apps.apple.com/search?term=HID%20Mobile%20Access",
			GoogleURL: "https://play.google.com/store/apps/details?id=com.hidglobal.mobilekeys.android.v3",
		},
		InvitationDays: 7,
		Locale:         "en",
		TimeZone:       "UTC",
		Sender:         credential.Sender{Color: "#1f4e79"},
		LowStock:       10,
	}
}

func (o *object) profile(accounts []string) credential.Profile {
	p := newProfile()
	o.required("name", &p.Name, line(128))
	o.text("description", &p.Description, line(1000))
	o.required("account", &p.Account, oneOf(accounts...))
	o.required("partNumber", &p.PartNumber, isPartNumber)
	app := o.object("app")
	app.text("name", &p.App.Name, line(128))
	app.text("appleUrl", &p.App.AppleURL, isLink)
	app.text("googleUrl", &p.App.GoogleURL, isLink)
	app.done()
	o.integer("invitationDays", &p.InvitationDays, 1, 30)
	o.text("locale", &p.Locale, isLocale)
	o.text("timeZone", &p.TimeZone, isTimeZone)
	sender := o.object("sender")
	sender.text("name", &p.Sender.Name, line(128))
	sender.text("replyTo", &p.Sender.ReplyTo, isEmail)
	sender.text("company", &p.Sender.Company, line(128))
	var logo string
	if sender.text("logoUrl", &logo, isLink); logo != "" {
		p.Sender.LogoURL = &logo
	}
	sender.text("color", &p.Sender.Color, isColor)
	sender.text("support", &p.Sender.Support, line(256))
	sender.done()
	o.integer("lowStock", &p.LowStock, 0, 1_000_000)
	o.done("id", "retired", "stock")
	return p
}

// holder reads a person. First name, last name and e-mail may be missing: a holder needs them only once a credential is
// assigned (R1).
func (o *object) holder() credential.Holder {
	return o.over(credential.Holder{Kind: credential.Cardholder})
}

// over reads a person as a change of one: a field that is not there stays as it is, and null, like an empty text,
// removes it. The rules are those of a person that is read as a whole.
func (o *object) over(h credential.Holder) credential.Holder {
	kind := string(h.Kind)
	if o.has("kind") {
		kind = string(credential.Cardholder)
	}
	kindKnown := o.text("kind", &kind, oneOf(credential.Cardholder, credential.Visitor))
	h.Kind = credential.HolderKind(kind)
	for _, f := range []struct {
		name    string
		into    *string
		allowed rule
	}{
		{"firstName", &h.FirstName, line(128)}, {"lastName", &h.LastName, line(128)}, {"email", &h.Email, isEmail},
		{"locale", &h.Locale, isLocale}, {"timeZone", &h.TimeZone, isTimeZone},
	} {
		if o.has(f.name) {
			*f.into = ""
		}
		o.text(f.name, f.into, f.allowed)
	}
	given := h.ValidUntil != nil
	if o.has("validUntil") {
		h.ValidUntil, given = o.moment("validUntil"), o.get("validUntil") != nil
	}
	switch {
	case h.Kind == credential.Visitor && !given:
		o.noteField("validUntil", "required", "Must be given for a visitor.")
	case kindKnown && h.Kind == credential.Cardholder && given:
		o.noteField("validUntil", "not_allowed", "Only a visitor has an end.")
	}
	o.done("id", "hasPicture", "erasing", "credentials")
	return h
}
