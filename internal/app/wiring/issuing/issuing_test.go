package issuing_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/app/apptest"
	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/app/wiring/issuing"
	"github.com/mobilecred/mobilecred/internal/mail"
	"github.com/mobilecred/mobilecred/internal/provider/accounts/clients"
)

var letter = mail.Letter{
	HolderFirstName: "Aimée", HolderLastName: "Tremblay", To: "aimee@example.com", ProfileName: "HQ",
	Code: "BPEX-LQTC-4E33-QT6N", ExpiresAt: apptest.Now.Add(7 * 24 * time.Hour), Locale: "en", TimeZone: "UTC",
}

func TestMailsNameSenderAndConfigurationSetOfTheEnvironment(t *testing.T) {
	for _, set := range []string{"the-set", ""} {
		aws := apptest.Start(t)
		aws.Answer("POST /v2/email/outbound-emails", `{"MessageId":"1"}`)
		base := wiring.New(aws.Environment.With("MAIL_CONFIGURATION_SET", set).Get, io.Discard)
		outcome := issuing.Connect(base, clients.Background).Mailer.Send(t.Context(), letter)
		if !base.Ready() || outcome.Fate != mail.Sent {
			t.Fatalf("with the configuration set %q, sending ends in %+v", set, outcome)
		}
		sent := strings.Join(aws.Asked("POST /v2/email/outbound-emails"), " ")
		if !strings.Contains(sent, "badges@example.com") {
			t.Errorf("the mail does not come from MAIL_FROM: %s", sent)
		}
		if set != "" && !strings.Contains(sent, `"ConfigurationSetName":"the-set"`) {
			t.Errorf("the mail names no configuration set: %s", sent)
		}
		if set == "" && strings.Contains(sent, "ConfigurationSetName") {
			t.Errorf("the mail names a configuration set although there is none: %s", sent)
		}
	}
}

func TestTheCallsOfAnAccountAreCountedAgainstTheShare(t *testing.T) {
	for share, limit := range map[clients.Share]string{clients.Interactive: "300", clients.Background: "210"} {
		aws := apptest.Start(t)
		adapters := issuing.Connect(wiring.New(aws.Environment.Get, io.Discard), share)
		p, err := adapters.Providers.Provider(t.Context(), "acme-origo")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = p.User(t.Context(), "103367")
		if spent := strings.Join(aws.Asked("UpdateItem"), " "); !strings.Contains(spent, `":limit":{"N":"`+limit+`"}`) {
			t.Errorf("a share of %d %% counts the call as %s, want the limit %s", share, spent, limit)
		}
	}
}
