// Package secrets connects functions to the secrets of the provider accounts. It links no provider's client, because
// webhook, which only compares a secret, needs none.
package secrets

import (
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/provider/accounts"
)

// Connect returns the accounts that ACCOUNTS names, each read from the secret SECRETS_PREFIX and its name.
func Connect(b *wiring.Base) *accounts.Secrets {
	client := secretsmanager.NewFromConfig(b.AWS(awsconf.SecretsManager))
	return accounts.New(client, b.Required("SECRETS_PREFIX"), b.Accounts(), b.Now)
}
