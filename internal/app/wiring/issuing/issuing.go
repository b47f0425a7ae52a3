// Package issuing puts the use cases together for functions that reserve and release at providers and mail invitations.
//
// Functions that only store or look up do without it: it links the client of every provider, Secrets Manager and SES.
package issuing

import (
	"errors"
	netmail "net/mail"

	"github.com/aws/aws-sdk-go-v2/service/sesv2"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/secrets"
	"github.com/mobilecred/mobilecred/internal/app/wiring/table"
	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/mail/ses"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
)

// Adapters are what the use cases act through.
type Adapters struct {
	Store     issuance.Store
	Providers provider.Providers
	Mailer    mail.Mailer
}

// Connect returns the adapters that the environment configures: the table, the accounts of package secrets, and SES
// with the sender MAIL_FROM and the configuration set MAIL_CONFIGURATION_SET, which may be absent. share is the part of
// each account's calls that the function may use.
func Connect(b *wiring.Base, share clients.Share) Adapters {
	store := table.Connect(b)
	return Adapters{
		Store:     store,
		Providers: clients.New(secrets.Connect(b), store, share, b.Now),
		Mailer: ses.New(sesv2.NewFromConfig(b.AWS(awsconf.SESv2)),
			sender(b, "MAIL_FROM"), b.Optional("MAIL_CONFIGURATION_SET")),
	}
}

// sender reads the address that mails come from, as SES takes it.
func sender(b *wiring.Base, name string) string {
	from := b.Required(name)
	if _, err := netmail.ParseAddress(from); err != nil && from != "" {
		b.Note(errors.New(name + " is not an e-mail address"))
	}
	return from
}

// Service returns the use cases on the adapters.
func Service(b *wiring.Base, a Adapters) *issuance.Service {
	return &issuance.Service{
		Store:     a.Store,
		Providers: a.Providers,
		Accounts:  b.Accounts(),
		Mailer:    a.Mailer,
		Now:       b.Now,
		NewID:     b.NewID,
		Log:       b.Log,
		Count:     b.Count,
		Gauge:     b.Gauge,
	}
}
