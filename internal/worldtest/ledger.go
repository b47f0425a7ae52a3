package worldtest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
)

// ledger is what a world remembers of its own past, to hold the service's memory against.
type ledger struct {
	last  map[string]credential.Credential // by credential, as it was when last looked at
	spent map[string]string                // by account and mobile ID: the credential that was activated with it

	others []*Other        // what other systems have in users that the service may know
	erased map[string]bool // holders whose erasure was asked for

	mu sync.Mutex
	// foreign names the users, invitations and credentials that the provider's administrators made.
	foreign map[string]bool
	// cancelled names the invitations that a holder declined or the provider's administrators cancelled.
	cancelled map[string]bool
	// newest is the newest picture uploaded for a user, and recorded holds the pictures whose names the service has
	// written down.
	newest   map[string]string
	recorded map[string]bool
}

func newLedger() ledger {
	return ledger{
		last: map[string]credential.Credential{}, spent: map[string]string{}, foreign: map[string]bool{},
		cancelled: map[string]bool{}, erased: map[string]bool{}, newest: map[string]string{},
		recorded: map[string]bool{},
	}
}

func name(parts ...string) string { return strings.Join(parts, " ") }

// uploaded notes the picture that the provider has just been given for a user; the answer can be read again afterwards.
func (l *ledger) uploaded(account string, r *http.Request, resp *http.Response) {
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var picture struct {
		ID json.Number `json:"id"`
	}
	if err != nil || resp.StatusCode != http.StatusCreated {
		return
	}
	if json.Unmarshal(body, &picture) != nil { // the answer broke off, so its name is known to the provider only
		picture.ID = "unread"
	}
	_, path, _ := strings.Cut(r.URL.Path, "/users/")
	user, _, _ := strings.Cut(path, "/")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest[name(account, user)] = picture.ID.String()
}

// record notes a picture that the service has written down.
func (l *ledger) record(item credential.WorkItem) {
	if item.PictureRef == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recorded[name(item.Account, item.UserID, item.PictureRef)] = true
}

// isNameless says whether the picture a user has was uploaded without the service ever learning its name: then the
// service cannot remove it.
func (l *ledger) isNameless(account, userID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := l.newest[name(account, userID)]
	return newest != "" && !l.recorded[name(account, userID, newest)]
}

func (l *ledger) isForeign(account, kind, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.foreign[name(account, kind, id)]
}

// IsForeignInvitation says whether an invitation was made by the provider's administrators, in Reassign
// or ReserveByHand, or by another system.
func (w *World) IsForeignInvitation(account, ref string) bool {
	return w.ledger.isForeign(account, "invitation", ref)
}

// Reassign is the provider giving a mobile ID to another person, a holder of ours or a stranger, by its externalId
// there. The world remembers that what comes of it is no work of the service.
func (w *World) Reassign(account, mobileID, externalID string) error {
	w.Helper()
	a := w.accounts[account]
	before := map[string]bool{}
	for _, u := range a.sim.State().Users {
		before[u.ID] = true
	}
	w.SetNow(w.Now().Add(time.Millisecond)) // what comes after what, the moments have to tell
	if err := a.sim.Reassign(mobileID, externalID); err != nil {
		return err
	}
	for _, u := range a.sim.State().Users {
		if u.ExternalID != externalID {
			continue
		}
		user, err := a.client.User(w.Ctx, u.ID)
		if err != nil {
			return err
		}
		w.ledger.noteForeign(account, user, mobileID, !before[u.ID])
		break
	}
	w.Settle()
	return nil
}

// ReserveByHand is an administrator of the provider inviting a user of ours, by its externalId, with a mobile ID of the
// part number. The world remembers that what comes of it is no work of the service. It fails as [origosim.Sim] does.
func (w *World) ReserveByHand(account, externalID, partNumber string) (mobileID string, err error) {
	w.Helper()
	a := w.accounts[account]
	w.SetNow(w.Now().Add(time.Millisecond)) // as in Reassign
	if mobileID, err = a.sim.ReserveByHand(externalID, partNumber); err != nil {
		return "", err
	}
	user, err := w.userWith(account, externalID, mobileID)
	if err != nil {
		return "", err
	}
	w.ledger.noteForeign(account, user, mobileID, false)
	err = w.noteOther(account, user.ID, externalID, mobileID, false)
	w.Settle()
	return mobileID, err
}

// AddExisting adds a person whom another system left at the provider of an account, with a live badge. The world
// remembers that the user and all it has are no work of the service.
func (w *World) AddExisting(account string, e origosim.Existing) (mobileID string, err error) {
	w.Helper()
	if mobileID, err = w.accounts[account].sim.AddExisting(e); err != nil {
		return "", err
	}
	user, err := w.userWith(account, e.ExternalID, mobileID)
	if err == nil && mobileID != "" {
		err = w.noteOther(account, user.ID, e.ExternalID, mobileID, true)
	}
	if err != nil {
		return "", err
	}
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	w.ledger.foreign[name(account, "user", user.ID)] = true
	for _, k := range user.Credentials {
		w.ledger.foreign[name(account, "credential", k.ID)] = true
	}
	for _, i := range user.Invitations {
		w.ledger.foreign[name(account, "invitation", i.ID)] = true
	}
	return mobileID, nil
}

// AddStrangers adds n users of other systems to the organisation of an account. SimOf(account).StirStrangers makes
// their systems do things with them.
func (w *World) AddStrangers(account string, n int) {
	w.Helper()
	ids, err := w.accounts[account].sim.AddStrangers(n)
	w.Must(err)
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	for _, id := range ids {
		w.ledger.foreign[name(account, "user", id)] = true
	}
}

// userWith reads the newest user with an externalId that has a mobile ID, or any if that is empty: a provider may have
// two with the same externalId.
func (w *World) userWith(account, externalID, mobileID string) (user provider.User, err error) {
	err = origosim.ErrUnknownUser
	for _, u := range w.accounts[account].sim.State().Users {
		has := func(i origosim.InvitationState) bool { return i.MobileID != nil && *i.MobileID == mobileID }
		if u.ExternalID == externalID && (mobileID == "" || slices.ContainsFunc(u.Invitations, has)) {
			user, err = w.accounts[account].client.User(w.Ctx, u.ID)
		}
	}
	return user, err
}

// noteForeign notes the newest invitation of a user, and the newest reservation of a mobile ID, as foreign; the user,
// too, when it is new.
func (l *ledger) noteForeign(account string, u provider.User, mobileID string, isNew bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := ""
	for _, k := range u.Credentials { // the provider lists what is older first
		if k.MobileID.ID == mobileID && k.Device == nil {
			newest = k.ID
		}
	}
	invitation := u.Invitations[len(u.Invitations)-1]
	l.foreign[name(account, "credential", newest)] = true
	l.foreign[name(account, "invitation", invitation.ID)] = true
	if isNew {
		l.foreign[name(account, "user", u.ID)] = true
	}
}

func (l *ledger) wasCancelled(account, invitationRef string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cancelled[name(account, invitationRef)]
}

// Cancel is the holder declining an invitation, or an administrator of the provider cancelling it. The world remembers
// it: without it no credential may end as declined.
func (w *World) Cancel(account, code string) error {
	w.Helper()
	a := w.accounts[account]
	invitation, known := a.sim.Invitation(code)
	if err := a.sim.Cancel(code); err != nil {
		return err
	}
	if known {
		w.ledger.mu.Lock()
		defer w.ledger.mu.Unlock()
		w.ledger.cancelled[name(account, invitation.ID)] = true
	}
	return nil
}

// CodeAtProvider is the code of the newest invitation of a user, by its externalId, as the provider shows it.
func (w *World) CodeAtProvider(account, externalID string) string {
	w.Helper()
	for _, u := range w.accounts[account].sim.State().Users {
		if u.ExternalID != externalID {
			continue
		}
		user, err := w.accounts[account].client.User(w.Ctx, u.ID)
		if err != nil {
			w.Fatal(err)
		}
		return user.Invitations[len(user.Invitations)-1].Code.Reveal()
	}
	w.Fatalf("no user %s", externalID)
	return ""
}
