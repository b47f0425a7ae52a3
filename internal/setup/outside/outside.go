// Package outside wires the service for functions that act outside: they reserve and release at a provider, and send mail.
package outside

import (
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"

	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/issuance"
	"github.com/mobilecred/mobilecred/internal/mail/ses"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
	"github.com/mobilecred/mobilecred/internal/setup"
	"github.com/mobilecred/mobilecred/internal/setup/table"
)

// Service wires the complete service. share is the part of an account's calls the function may use.
func Service(b *setup.Base, share clients.Share) *issuance.Service {
	store := table.Store(b)
	secrets := accounts.New(secretsmanager.NewFromConfig(b.AWS(awsconf.SecretsManager)), b.Env("SECRETS_PREFIX"), b.Accounts(), b.Now)
	return &issuance.Service{
		Store:     store,
		Providers: clients.New(secrets, store, share, b.Now),
		Mailer:    ses.New(sesv2.NewFromConfig(b.AWS(awsconf.SESv2)), b.Env("MAIL_FROM"), ""),
		Now:       b.Now,
		NewID:     b.NewID,
		Log:       b.Log,
		Count:     b.Count,
	}
}
