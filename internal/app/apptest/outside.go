package apptest

import (
	"context"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/app/wiring/issuing"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/store/memory"
)

// IssuingChecks are the variables that functions which act at providers and send mail look at closely.
var IssuingChecks = []string{"ACCOUNTS", "MAIL_FROM", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SECRETS_MANAGER",
	"AWS_ENDPOINT_URL_SESV2"}

// Outside stands for all that the use cases act through: a store in memory, a mailbox, and a provider which knows no
// user and always reserves the same mobile ID, P:56.
type Outside struct {
	Store  *memory.Store
	Mailed []mail.Letter
	Read   []string // the ids of the users read at the provider
	Down   bool     // the provider gives no access
	Hangs  bool     // the provider does not answer a request for a reservation

	provider.Provider // what no test here needs
}

// NewOutside returns an empty store, an empty mailbox and a provider that answers.
func NewOutside() *Outside { return &Outside{Store: &memory.Store{}} }

// Adapters are the adapters to it.
func (o *Outside) Adapters() issuing.Adapters {
	return issuing.Adapters{Store: o.Store, Providers: providers{o}, Mailer: o}
}

// Describe stores the profile hq and the holder E-1, aimee@example.com.
func (o *Outside) Describe(t *testing.T) {
	t.Helper()
	service := issuing.Service(Base(t), o.Adapters())
	_, _, err := service.PutProfile(t.Context(), credential.PutProfile{Profile: credential.Profile{
		ID: "hq", Name: "HQ", Account: "acme-origo", PartNumber: "P", InvitationDays: 7}})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = service.PutHolder(t.Context(), credential.PutHolder{Holder: credential.Holder{
		ID: "E-1", Kind: credential.Cardholder, FirstName: "Aimée", LastName: "Tremblay", Email: "aimee@example.com"}})
	if err != nil {
		t.Fatal(err)
	}
}

// HangStore has the store hang in an operation, named as memory.Store names it to Fail, until the test ends: a
// dependency that does not heed contexts.
func (o *Outside) HangStore(t *testing.T, operation string) {
	t.Helper()
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	o.Store.Fail = func(called string) error {
		if called == operation {
			<-over
		}
		return nil
	}
}

// Send implements mail.Mailer.
func (o *Outside) Send(_ context.Context, letter mail.Letter) mail.Outcome {
	o.Mailed = append(o.Mailed, letter)
	return mail.Outcome{Fate: mail.Sent, MessageID: "1"}
}

// User implements provider.Provider.
func (o *Outside) User(_ context.Context, userID string) (provider.User, error) {
	o.Read = append(o.Read, userID)
	return provider.User{}, o.answer(provider.ErrNotFound)
}

// FindUser implements provider.Provider.
func (o *Outside) FindUser(context.Context, provider.Person) (provider.User, error) {
	return provider.User{}, o.answer(provider.ErrNotFound)
}

// Reserve implements provider.Provider.
func (o *Outside) Reserve(ctx context.Context, _ string, _ provider.Person, _ string) (credential.Reserved, error) {
	if o.Hangs {
		<-ctx.Done()
		return credential.Reserved{}, provider.ErrUnavailable
	}
	expires := Now.Add(7 * 24 * time.Hour)
	return credential.Reserved{UserID: "103367", InvitationRef: "1", CredentialRef: "2", Code: "BPEX-LQTC-4E33-QT6N",
		ExpiresAt: &expires, Mobile: &credential.MobileID{ID: "P:56", Number: "56"}}, o.answer(nil)
}

// Feed implements provider.Provider.
func (o *Outside) Feed(_ context.Context, bookmark string, _ time.Time, _ int) (provider.Feed, error) {
	return provider.Feed{Next: bookmark}, o.answer(nil)
}

func (o *Outside) answer(err error) error {
	if o.Down {
		return provider.ErrNoAccess
	}
	return err
}

// providers finds the one provider for every account.
type providers struct{ *Outside }

func (p providers) Provider(context.Context, string) (provider.Provider, error) {
	return p.Outside, nil
}
