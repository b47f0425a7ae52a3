package mail

import (
	"context"
	"errors"

	"github.com/mobilecred/mobilecred/internal/issuance"
)

// Letters implements issuance.Mailer.
type Letters struct{ *SES }

// Send writes and sends an invitation. The holder's own language and time zone come before the profile's.
func (l Letters) Send(ctx context.Context, letter issuance.Letter) (issuance.MailOutcome, string) {
	h, p, c := letter.Holder, letter.Profile, letter.Credential
	inv := Invitation{
		HolderFirstName: h.FirstName, HolderLastName: h.LastName, To: h.Email,
		ProfileName: p.Name, MobileIDName: c.Name(), AppName: p.App.Name, AppleURL: p.App.AppleURL, GoogleURL: p.App.GoogleURL,
		Code: c.Invitation.Code.Reveal(), Locale: first(h.Locale, p.Locale), TimeZone: first(h.TimeZone, p.TimeZone),
		Sender:   Sender{Name: p.Sender.Name, ReplyTo: p.Sender.ReplyTo, Company: p.Sender.Company, Color: p.Sender.Color, Support: p.Sender.Support},
		HolderID: h.ID, CredentialID: c.ID,
	}
	if p.Sender.LogoURL != nil {
		inv.Sender.LogoURL = *p.Sender.LogoURL
	}
	if c.Invitation.ExpiresAt != nil {
		inv.ExpiresAt = *c.Invitation.ExpiresAt
	}
	_, err := l.SES.Send(ctx, inv)
	switch {
	case err == nil:
		return issuance.MailSent, ""
	case errors.Is(err, ErrInDoubt):
		return issuance.MailInDoubt, ""
	}
	var failed *SendError
	if errors.As(err, &failed) {
		return issuance.MailNotSent, failed.Reason
	}
	return issuance.MailNotSent, "unknown"
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
