package worldtest

import (
	"slices"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
)

// Other is a mobile ID that a user of the provider has by the hand of another system, or of an administrator: the
// service must leave it alone and must not take it for its own.
type Other struct {
	Account, UserID string
	HolderID        string // the externalId of the user
	MobileID        string
	Invitation      string // the provider's reference of its invitation
	OnPhone         bool
	Existed         bool // before the service knew of the user

	credential string // the provider's reference when it was reserved
	removed    bool   // by others than the service
	maybeOurs  bool   // see noteDoubts
}

// noteOther remembers the mobile ID of another system in a user, by the newest invitation there.
func (w *World) noteOther(account, userID, holderID, mobileID string, existed bool) error {
	user, err := w.accounts[account].client.User(w.Ctx, userID)
	if err != nil {
		return err
	}
	o := &Other{Account: account, UserID: userID, HolderID: holderID, MobileID: mobileID,
		OnPhone: existed, Existed: existed,
		Invitation: user.Invitations[len(user.Invitations)-1].ID}
	for _, k := range user.Credentials {
		if k.MobileID.ID == mobileID {
			o.credential = k.ID
		}
	}
	w.ledger.others = append(w.ledger.others, o)
	for _, c := range w.Rows() {
		w.noteDoubts(c)
	}
	return nil
}

// noteDoubts notes of which mobile IDs of other systems the service cannot tell that they are not its own. It asked for
// a reservation, does not know whether it was made, and did not see the other system's before it asked: nothing that
// the provider shows then tells the one from the other. That is so while a doubt is open, and for a doubt that was
// settled without its answer as long as the request may still be carried out. A badge on a phone is never in question:
// only the answer that never came had the code of a reservation in doubt.
func (w *World) noteDoubts(c credential.Credential) {
	for _, o := range w.ledger.others {
		if o.OnPhone || o.HolderID != c.HolderID || o.Account != c.Account {
			continue
		}
		isUnseen := func(d credential.Doubt) bool {
			isOfUser := d.UserID == "" || d.UserID == o.UserID
			isSeen := slices.Contains(d.Invitations, o.Invitation) && slices.Contains(d.Credentials, o.credential)
			return isOfUser && !isSeen
		}
		mayCome := func(d credential.Doubt) bool {
			return !d.Explained && w.Now().Sub(d.At) <= credential.LateFor && isUnseen(d)
		}
		isOpen := c.Reservation == credential.ReservationInDoubt && c.Doubt != nil
		if isOpen && isUnseen(*c.Doubt) || slices.ContainsFunc(c.Unanswered, mayCome) {
			o.maybeOurs = true
		}
	}
}

// checkNotTaken: no credential has as its own what another system has made.
func (w *World) checkNotTaken(c credential.Credential) {
	w.Helper()
	for _, o := range w.ledger.others {
		if o.Account != c.Account || o.maybeOurs {
			continue
		}
		for _, r := range slices.Concat([]credential.Reserved{c.Reserved()}, c.Aside, c.Strays) {
			if r.InvitationRef == o.Invitation || r.CredentialRef != "" && r.CredentialRef == o.credential {
				w.Fatalf("%s has taken %s of user %s, which another system made: %+v", c.ID, o.MobileID, o.UserID, r)
			}
		}
	}
}

// AtProvider lets phones, administrators or other systems do something at the provider. What they take from another
// system is not for the service to keep.
func (w *World) AtProvider(act func() error) error {
	w.Helper()
	were := w.OthersThere()
	err := act()
	are := w.OthersThere()
	for _, o := range were {
		o.removed = o.removed || !slices.Contains(are, o)
	}
	return err
}

// RedeemOther puts a mobile ID that an administrator reserved by hand on a phone: the administrator knows its code. It
// fails as [origosim.Sim.Redeem] does.
func (w *World) RedeemOther(o *Other, phone string) error {
	w.Helper()
	user, err := w.accounts[o.Account].client.User(w.Ctx, o.UserID)
	if err != nil {
		return err
	}
	for _, i := range user.Invitations {
		if i.ID == o.Invitation {
			err = w.accounts[o.Account].sim.Redeem(phone, i.Code.Reveal())
		}
	}
	o.OnPhone = o.OnPhone || err == nil
	return err
}

// MaybeOurs says that nothing tells the service that this mobile ID is not its own.
func (o *Other) MaybeOurs() bool { return o.maybeOurs }

// Others are all mobile IDs of other systems there ever were in users that the service may know, the oldest first.
func (w *World) Others() []*Other { return w.ledger.others }

// OthersThere are those of them that their users still have, and that are not being revoked.
func (w *World) OthersThere() (there []*Other) {
	states := map[string]origosim.State{}
	for _, o := range w.ledger.others {
		state, known := states[o.Account]
		if !known {
			state = w.accounts[o.Account].sim.State()
			states[o.Account] = state
		}
		if o.in(state) == otherThere && !w.isRevoking(o) {
			there = append(there, o)
		}
	}
	return there
}

// isRevoking says whether the revocation of a mobile ID on a phone has begun.
func (w *World) isRevoking(o *Other) bool {
	if !o.OnPhone {
		return false
	}
	user, err := w.accounts[o.Account].client.User(w.Ctx, o.UserID)
	return err == nil && slices.ContainsFunc(user.Credentials, func(k provider.Credential) bool {
		return k.MobileID.ID == o.MobileID && k.Revoking
	})
}

type otherStatus int

const (
	otherThere otherStatus = iota
	otherGone
	otherExpired
	otherUserGone
)

func (o *Other) in(state origosim.State) otherStatus {
	at := slices.IndexFunc(state.Users, func(u origosim.UserState) bool { return u.ID == o.UserID })
	if at < 0 {
		return otherUserGone
	}
	for _, i := range state.Users[at].Invitations {
		switch {
		case i.ID != o.Invitation:
		case i.Status == "EXPIRED":
			return otherExpired
		case i.Status != "CANCELLED" && i.MobileID != nil && *i.MobileID == o.MobileID:
			return otherThere
		}
	}
	return otherGone
}

// MayErase notes that the service was asked to erase a holder: it removes the holder's user from the provider, with
// everything that the user has, by whichever system.
func (w *World) MayErase(holderID string) { w.ledger.erased[holderID] = true }

// checkOthers: what other systems have made is still there, unless they have ended it themselves, nothing tells it from
// our own, or it went with its user.
func (w *World) checkOthers() {
	w.Helper()
	for _, o := range w.ledger.others {
		if o.removed || o.maybeOurs {
			continue
		}
		switch o.in(w.accounts[o.Account].sim.State()) {
		case otherGone:
			w.Errorf("user %s of %s does not have %s any more, which another system made", o.UserID, o.HolderID,
				o.MobileID)
		case otherUserGone:
			if !w.ledger.erased[o.HolderID] {
				w.Errorf("user %s of %s is gone, with %s of another system", o.UserID, o.HolderID, o.MobileID)
			}
		}
	}
}
