package worldtest

import (
	"slices"
	"strings"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// calm is one look at a world that has come to rest.
type calm struct {
	*World
	users map[string]provider.User // by account and user
	// explained names what the provider's users have because a live credential has it.
	explained map[string]bool
	// byHand names the mobile IDs that come of an invitation which is not ours, by account and user and by account: a
	// credential's own id may have changed when it was issued.
	byHand map[string]bool
	// onPhone names the mobile IDs that a live credential has on a phone.
	onPhone map[string]bool
}

// CheckCalm checks what must hold once nothing has gone wrong for a while: nothing is left to do, and the provider, its
// phones and the mails agree with what the table says. untold, when given, names the credentials whose holder was
// changed without the account ever hearing of it: they may show the holder as it was.
func (w *World) CheckCalm(untold ...func(credential.Credential) bool) {
	w.Helper()
	w.CheckAlways()
	l := &calm{World: w, users: map[string]provider.User{}, explained: map[string]bool{}, byHand: map[string]bool{},
		onPhone: map[string]bool{}}
	for _, name := range w.options.Accounts {
		l.readUsers(name)
	}
	rows := w.Rows()
	for _, c := range rows {
		l.checkRest(c)
		if c.IsWaiting() {
			l.checkWaiting(c)
			continue
		}
		l.checkMails(c)
		if c.IsLive() {
			excused := slices.ContainsFunc(untold, func(f func(credential.Credential) bool) bool { return f(c) })
			l.checkLive(c, excused)
		}
	}
	l.checkUsers()
	l.checkPhones()
	w.checkOthers()
	if w.Failed() {
		for _, c := range rows {
			w.Logf("%s of %s: %s %s, user %s, %s/%s %+v: %s", c.ID, c.HolderID, c.State(), c.Reason, c.UserID,
				c.InvitationRef, c.CredentialRef, c.Mobile, w.Story(c))
			w.Logf("%s: missing %v, look %v, reports %+v, unanswered %+v", c.ID, c.MissingAt, c.LookAt, c.Reports,
				c.Unanswered)
		}
	}
}

// readUsers reads the users of an account; each is of a holder of ours, or was made by the provider's administrators.
func (l *calm) readUsers(account string) {
	l.Helper()
	if o, err := l.Store.Outage(l.Ctx, account); err != nil || !o.Since.IsZero() {
		l.Errorf("outage of %s: %+v, %v", account, o, err)
	}
	for _, u := range l.accounts[account].sim.State().Users {
		user, err := l.accounts[account].client.User(l.Ctx, u.ID)
		if err != nil {
			l.Fatal(err)
		}
		l.users[name(account, u.ID)] = user
		for _, i := range u.Invitations {
			if i.MobileID != nil && l.ledger.isForeign(account, "invitation", i.ID) {
				l.byHand[name(account, u.ID, *i.MobileID)] = true
				l.byHand[name(account, *i.MobileID)] = true
			}
		}
		if _, err := l.Store.Holder(l.Ctx, u.ExternalID); err != nil && !l.ledger.isForeign(account, "user", u.ID) {
			l.Errorf("user %s of %s, who is gone", u.ID, u.ExternalID)
		}
	}
}

// checkRest: nothing is left to do for a row.
func (l *calm) checkRest(c credential.Credential) {
	l.Helper()
	now := l.Now()
	h := l.holderOf(c)
	if h.ID == "" && c.Invitation.SentTo != "" {
		l.Errorf("%s of an erased holder: sent to %s", c.ID, c.Invitation.SentTo)
	}
	if h.ID != "" {
		if h.Erasing {
			l.Errorf("%s is still being erased", h.ID)
		}
		item, err := l.Store.WorkItem(l.Ctx, c.HolderID, c.Account)
		step := credential.Next(c, h, now)
		if step.Kind != credential.StepNone && (!step.At.After(now) || err != nil || item.DueAt == nil ||
			item.DueAt.After(step.At)) {
			l.Errorf("%s (%s): still to %s at %s, retry %+v, work %+v", c.ID, c.State(), step.Kind, step.At, c.Retry,
				item)
		}
		if err == nil && item.Claim != nil {
			l.Errorf("%s: claim %+v", c.HolderID, item.Claim)
		}
	}
	if c.Device != nil && !c.IsLive() {
		slot, err := l.Store.Slot(l.Ctx, c.Account, c.Device.ID, c.ProfileID)
		if err == nil && slot.CredentialID == c.ID {
			l.Errorf("%s is %s and has the slot of %s", c.ID, c.Status, c.Device.ID)
		}
	}
	inDoubt := c.Reservation == credential.ReservationInDoubt || c.Doubt != nil
	aside := len(c.Aside)
	if c.IsWaiting() { // until another is obtained
		aside = 0
	}
	if len(c.Strays)+aside > 0 || inDoubt || !c.IsLive() && c.Reservation == credential.ReservationHeld {
		l.Errorf("%s (%s): %s, strays %v, aside %v", c.ID, c.State(), c.Reservation, c.Strays, c.Aside)
	}
}

// checkWaiting: a credential waits only while the pool has nothing, and what it has put aside is still there.
func (l *calm) checkWaiting(c credential.Credential) {
	l.Helper()
	for _, p := range l.accounts[c.Account].sim.State().PartNumbers {
		if p.PartNumber == c.PartNumber && len(p.Available) > 0 {
			l.Errorf("%s waits, and there is %v", c.ID, p.Available)
		}
	}
	for _, t := range c.Aside {
		l.explained[name(c.Account, "credential", t.CredentialRef)] = true
		l.explained[name(c.Account, "invitation", t.InvitationRef)] = true
	}
}

// checkMails: as many mails as were asked for, and no more unless their senders cannot have known.
func (l *calm) checkMails(c credential.Credential) {
	l.Helper()
	entries, err := l.Store.History(l.Ctx, c.HolderID, c.ID)
	if err != nil {
		l.Fatal(err)
	}
	sent, repeats := l.Mailbox.about(c.ID)
	most := 1 + repeats
	for _, e := range entries {
		if e.Event == credential.EventResent {
			most++
		}
	}
	if sent > most {
		l.Errorf("%s: %d mails, at most %d expected", c.ID, sent, most)
	}
	if c.Invitation.Mails < sent {
		l.Errorf("%s: %d mails are counted, %d were sent", c.ID, c.Invitation.Mails, sent)
	}
	if c.IsLive() && (sent == 0 || c.Invitation.Mails == 0 && c.Stage == credential.StageInvited ||
		c.Stage == credential.StageInvited && c.Invitation.Status != credential.InvitationSent) {
		l.Errorf("%s (%s): %d mails, %s", c.ID, c.State(), sent, c.Invitation.Status)
	}
}

// checkLive: the provider's user has what a live credential says, and its phone shows it.
func (l *calm) checkLive(c credential.Credential, untold bool) {
	l.Helper()
	u := l.users[name(c.Account, c.UserID)]
	i := slices.IndexFunc(u.Credentials, func(k provider.Credential) bool { return k.ID == c.CredentialRef })
	if i < 0 && c.Stage != credential.StageInvited && l.isKnownMissing(c) {
		return // the provider has not said why, so it stays as it is, and the operator knows
	}
	if c.Mobile == nil || i < 0 || u.Credentials[i].MobileID.ID != c.Mobile.ID {
		l.Errorf("%s (%s) is live: %+v; its user %s has %+v", c.ID, c.State(), c.Mobile, c.UserID, u.Credentials)
		return
	}
	k := u.Credentials[i]
	l.explained[name(c.Account, "credential", k.ID)] = true
	l.explained[name(c.Account, "invitation", c.InvitationRef)] = true
	onDevice := k.Device != nil && !k.Issuing
	if onDevice != (c.Stage == credential.StageActivated) || onDevice && c.Device.ID != k.Device.ID {
		l.Errorf("%s is %s on %+v, at the provider on %+v", c.ID, c.State(), c.Device, k.Device)
		return
	}
	if onDevice {
		l.onPhone[name(c.Account, c.Device.ID, c.Mobile.ID)] = true
	}
	if untold {
		return
	}
	h := l.holderOf(c)
	if c.Stage == credential.StageActivated {
		l.checkPicture(c, h)
	}
	for _, s := range l.accounts[c.Account].sim.State().Users {
		if s.ID == c.UserID && !strings.EqualFold(s.Email, h.Email) {
			l.Errorf("%s is %s at the provider, and %s", h.ID, s.Email, h.Email)
		}
	}
}

// isKnownMissing says whether the history of a credential tells that its mobile ID is missing at the provider, or,
// where that has never listed it, a warning that it is not on the phone yet.
func (l *calm) isKnownMissing(c credential.Credential) bool {
	l.Helper()
	if c.Stage == credential.StageActivating && c.MissingAt != nil {
		return true
	}
	entries, err := l.Store.History(l.Ctx, c.HolderID, c.ID)
	if err != nil {
		l.Fatal(err)
	}
	return slices.ContainsFunc(entries, func(e credential.HistoryEntry) bool {
		return e.Event == credential.EventMissingAtProvider && e.Anomaly
	})
}

// checkPicture: the badge shows the holder's picture, or none. A picture whose name never reached the service may stay.
func (l *calm) checkPicture(c credential.Credential, h credential.Holder) {
	l.Helper()
	if c.PictureHash != h.PictureHash {
		l.Errorf("%s shows picture %q of %q", c.ID, c.PictureHash, h.PictureHash)
	}
	for _, b := range l.accounts[c.Account].sim.Phone(c.Device.ID).Badges {
		left := b.HasPicture && l.ledger.isNameless(c.Account, c.UserID)
		if b.MobileID == c.Mobile.ID && b.HasPicture != (h.PictureHash != "") && !left {
			l.Errorf("%s has a picture %v, want %q", c.ID, b.HasPicture, h.PictureHash)
		}
	}
}

// checkUsers: whatever the provider's users have, a live credential has, or the provider's administrators made.
func (l *calm) checkUsers() {
	l.Helper()
	for _, account := range l.options.Accounts {
		isOurs := func(kind, id string) bool {
			return !l.ledger.isForeign(account, kind, id) && !l.explained[name(account, kind, id)]
		}
		for id, u := range l.users {
			if id != name(account, u.ID) {
				continue
			}
			for _, k := range u.Credentials {
				if isOurs("credential", k.ID) && !l.byHand[name(account, u.ID, k.MobileID.ID)] {
					l.Errorf("user %s of %s has %s (%s, on %+v), which no credential has", u.ID, u.ExternalID, k.ID,
						k.MobileID.ID, k.Device)
				}
			}
			for _, i := range u.Invitations {
				if i.Status == provider.InvitationPending && isOurs("invitation", i.ID) {
					l.Errorf("user %s of %s has invitation %s, which no credential has", u.ID, u.ExternalID, i.ID)
				}
			}
		}
	}
}

// checkPhones: a mobile ID that opens doors on a phone is a live credential's, or was put there by others.
func (l *calm) checkPhones() {
	l.Helper()
	for _, account := range l.options.Accounts {
		for _, p := range l.accounts[account].sim.Phones() {
			for _, b := range p.Badges {
				if !l.onPhone[name(account, p.DeviceID, b.MobileID)] && !l.byHand[name(account, b.MobileID)] {
					l.Errorf("%s of %s is on %s, and no live credential has it there", b.MobileID, account, p.DeviceID)
				}
			}
		}
	}
}
