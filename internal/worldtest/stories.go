package worldtest

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"slices"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/issuance"
)

// Portrait is a picture that the provider accepts.
func Portrait() []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 4, 4)), nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Must stops the test on an error, and settles.
func (w *World) Must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	w.Settle()
}

// Refusal expects an error to be a refusal with a code.
func (w *World) Refusal(err error, want credential.Code) {
	w.Helper()
	if !errors.Is(err, credential.Refuse(want, "")) {
		w.Errorf("%v, want %s", err, want)
	}
}

// Pass lets time go by and runs one sweep, as the schedule would.
func (w *World) Pass(d time.Duration) issuance.SweepReport {
	w.Helper()
	w.Settle()
	w.SetNow(w.Now().Add(d))
	report, err := w.Service.Sweep(w.Ctx, w.options.Accounts)
	w.Must(err)
	return report
}

// PutProfile stores a profile of an account.
func (w *World) PutProfile(id, account, partNumber string) {
	w.Helper()
	_, _, err := w.Service.PutProfile(w.Ctx, credential.PutProfile{Profile: credential.Profile{
		ID: id, Name: "HQ employees", Account: account, PartNumber: partNumber, InvitationDays: 7, Locale: "en",
		TimeZone: "UTC",
	}})
	w.Must(err)
}

// PutHolder stores a holder.
func (w *World) PutHolder(id string, edits ...func(*credential.Holder)) {
	w.Helper()
	h := credential.Holder{
		ID: id, Kind: credential.Cardholder, FirstName: "Aimée", LastName: "Tremblay",
		Email: strings.ToLower(id) + "@example.com",
	}
	for _, e := range edits {
		e(&h)
	}
	_, _, err := w.Service.PutHolder(w.Ctx, credential.PutHolder{Request: w.Portal, Holder: h})
	if err != nil {
		w.Fatal(err)
	}
}

// Assign gives a holder a credential of the profile hq.
func (w *World) Assign(holderID string) credential.Credential {
	w.Helper()
	result, err := w.Service.Assign(w.Ctx, credential.Assign{Request: w.Portal, HolderID: holderID, ProfileID: "hq"})
	w.Must(err)
	return result.Credential
}

// Invited makes a holder with a credential whose invitation is out.
func (w *World) Invited(holderID string) credential.Credential {
	w.Helper()
	w.PutHolder(holderID)
	c := w.Assign(holderID)
	if c.Invitation.Status != credential.InvitationSent {
		w.Fatalf("invitation is %s", c.Invitation.Status)
	}
	return c
}

// Activated makes a holder with a credential on a phone.
func (w *World) Activated(holderID, phone string) credential.Credential {
	w.Helper()
	return w.Redeem(w.Invited(holderID), phone)
}

// Redeem enters the code that was mailed for a credential on a phone.
func (w *World) Redeem(c credential.Credential, phone string) credential.Credential {
	w.Helper()
	w.Must(w.SimOf(c.Account).Redeem(phone, w.CodeOf(c)))
	return w.Read(c)
}

// CodeOf is the code in the newest mail about a credential.
func (w *World) CodeOf(c credential.Credential) string {
	w.Helper()
	for _, l := range slices.Backward(w.Mailbox.Letters()) {
		if l.CredentialID == c.ID {
			return l.Code.Reveal()
		}
	}
	w.Fatalf("no mail about %s", c.ID)
	return ""
}

// End ends a credential, as an operator does.
func (w *World) End(c credential.Credential, reason credential.EndReason) (credential.Credential, error) {
	w.Helper()
	r, err := w.Service.End(w.Ctx, credential.End{Request: w.Portal, HolderID: c.HolderID, CredentialID: c.ID,
		Reason: reason})
	w.Settle()
	return r.Credential, err
}

// Read reads a credential as it is stored now.
func (w *World) Read(c credential.Credential) credential.Credential {
	w.Helper()
	c, err := w.Store.Credential(w.Ctx, c.HolderID, c.ID)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// Expect stops the test unless a credential is in a state for a reason.
func (w *World) Expect(c credential.Credential, state, reason string) credential.Credential {
	w.Helper()
	c = w.Read(c)
	if c.State() != state || c.Reason != reason {
		w.Fatalf("credential is %s %q, want %s %q", c.State(), c.Reason, state, reason)
	}
	return c
}

// Story is the history of a credential in words; anomalies are marked "!", what came late "~".
func (w *World) Story(c credential.Credential) string {
	w.Helper()
	entries, err := w.Store.History(w.Ctx, c.HolderID, c.ID)
	if err != nil {
		w.Fatal(err)
	}
	var words []string
	for _, e := range entries {
		word := string(e.Event)
		if e.Anomaly {
			word += "!"
		}
		if e.Late {
			word += "~"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
