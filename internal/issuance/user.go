package issuance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// person is what a provider is told of a holder. An e-mail with an international domain is told as the portal gave it
// and not as it is mailed to: the provider is searched by it, also for users who were made before, and an operator who
// looks there finds what the portal shows.
func person(h credential.Holder) provider.Person {
	return provider.Person{ExternalID: h.ID, FirstName: h.FirstName, LastName: h.LastName, Email: h.Email}
}

// personHash identifies what a provider was told of a holder without repeating it.
func personHash(h credential.Holder) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{h.ID, h.FirstName, h.LastName, h.Email}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// readUser reads a provider's user; nil when it was deleted.
func readUser(ctx context.Context, p provider.Provider, userID string) (*provider.User, error) {
	u, err := p.User(ctx, userID)
	if errors.Is(err, provider.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &u, nil
}

// userOf reads the provider's user of a row; nil when it was deleted.
func (r *run) userOf(ctx context.Context, c credential.Credential) (*provider.User, error) {
	p, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	u, err := readUser(ctx, p, c.UserID)
	return u, r.noteAnswer(err)
}

// findUser reads the provider's user of the holder: by its id when that is known, by e-mail otherwise, and then its id
// is kept, because the user has to be kept in step and removed with the holder. ErrNotFound when there is none,
// ErrEmailInUse when the e-mail is another user's.
func (r *run) findUser(ctx context.Context) (provider.User, error) {
	p, err := r.connect(ctx)
	if err != nil {
		return provider.User{}, err
	}
	if r.item.UserID != "" {
		u, err := p.User(ctx, r.item.UserID)
		if err == nil && u.ExternalID != "" && u.ExternalID != r.holder.ID {
			err = provider.ErrNotFound
		}
		if r.noteAnswer(err) == nil || !errors.Is(err, provider.ErrNotFound) {
			return u, err
		}
	}
	if r.holder.Email == "" {
		return provider.User{}, provider.ErrNotFound // erased
	}
	u, err := p.FindUser(ctx, person(r.holder))
	if r.noteAnswer(err) != nil && !isTrouble(err) && r.holder.FormerEmail != "" {
		former := person(r.holder)
		former.Email = r.holder.FormerEmail
		if byFormer, e := p.FindUser(ctx, former); r.noteAnswer(e) == nil || isTrouble(e) {
			u, err = byFormer, e
		}
	}
	if err == nil {
		err = r.rememberUser(ctx, u.ID, "") // how it is described there is unknown
	}
	return u, err
}

// rememberUser remembers the provider's user of the holder, and the hash of the description it was last given.
func (r *run) rememberUser(ctx context.Context, userID, personHash string) error {
	if r.item.UserID == userID && r.item.PersonHash == personHash {
		return nil
	}
	if r.item.UserID != userID {
		r.item.PictureRef = ""
	}
	r.item.UserID, r.item.PersonHash, r.item.Retry = userID, personHash, credential.Retry{}
	return r.Store.SaveWork(ctx, r.item)
}

// keepUser keeps the provider's user in step with the holder once the rows have been worked on, and adds when to try
// again.
func (r *run) keepUser(ctx context.Context, rows []credential.Credential, next *moment) error {
	if err := r.recallUser(ctx, rows, next.at == nil); err != nil {
		return err
	}
	for {
		job := r.userJob(rows, next.at == nil)
		if job == nil {
			return r.showHolderRetry(ctx, rows, credential.Retry{})
		}
		now := r.Now()
		if !r.mayCall() {
			next.add(now.Add(probeWait))
			return nil
		}
		if until := r.item.Retry.Waits(credential.StepUser, r.holder); now.Before(until) {
			next.add(until)
			return nil
		}
		p, err := r.connect(ctx)
		if err == nil {
			err = job(ctx, p)
		}
		switch {
		case err == nil:
			continue
		case isTrouble(err):
			r.unanswered++
			r.trouble = err
			next.add(now.Add(probeWait))
			return nil
		case !isRefusal(err):
			return err
		}
		r.item.Retry = credential.Postpone(r.item.Retry, credential.StepUser, r.holder, refusalCode(err), now)
		if r.item.Retry.Attempts == credential.RefusalLimit {
			r.reportStuck(ctx, "", credential.StepUser, refusalCode(err))
		}
		next.add(r.item.Retry.At)
		if err := r.Store.SaveWork(ctx, r.item); err != nil {
			return err
		}
		return r.showHolderRetry(ctx, rows, r.item.Retry)
	}
}

// showHolderRetry shows on the holder's live rows that the provider refuses what its user needs; the zero value, that
// it does not.
func (r *run) showHolderRetry(ctx context.Context, rows []credential.Credential, retry credential.Retry) error {
	for _, row := range rows {
		if !row.IsLive() || row.HolderRetry == retry {
			continue
		}
		err := r.edit(ctx, row, func(c *credential.Credential) bool {
			differs := c.IsLive() && c.HolderRetry != retry
			c.HolderRetry = retry
			return differs
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// recallUser finds the provider's user of a holder that is being erased in the rows, when the work item does not know
// it: a process whose claim had run out may have created it, and could not note it there.
func (r *run) recallUser(ctx context.Context, rows []credential.Credential, idle bool) error {
	if !r.holder.Erasing || !idle || r.item.UserID != "" {
		return nil
	}
	for _, c := range rows {
		if c.UserID != "" && !c.Erased {
			return r.rememberUser(ctx, c.UserID, "")
		}
	}
	return nil
}

// userJob is what the provider's user needs next, nil for nothing. idle says that nothing else is left to do for the
// holder.
func (r *run) userJob(rows []credential.Credential, idle bool) func(context.Context, provider.Provider) error {
	if r.item.UserID == "" {
		return nil
	}
	if r.holder.Erasing {
		if idle {
			return r.deleteUser
		}
		return nil
	}
	if r.item.PictureRef != "" && r.holder.PictureHash == "" {
		return r.removePicture // set for a credential of the past: the user would show it on the next one, too
	}
	if slices.ContainsFunc(rows, credential.Credential.IsLive) && r.item.PersonHash != personHash(r.holder) {
		return r.updateUser
	}
	return nil
}

// deleteUser removes the provider's user of an erased holder.
func (r *run) deleteUser(ctx context.Context, p provider.Provider) error {
	if err := r.remove(ctx, p, func() error { return p.DeleteUser(ctx, r.item.UserID) }); err != nil {
		return err
	}
	return r.rememberUser(ctx, "", "")
}

// remove removes the user or something of it. That it is not there may be the word of a gateway in front of the
// provider: it is believed when the provider says so between two readings of the user.
func (r *run) remove(ctx context.Context, p provider.Provider, call func() error) error {
	err := r.noteAnswer(call())
	if !errors.Is(err, provider.ErrNotFound) {
		return err
	}
	if _, err := readUser(ctx, p, r.item.UserID); r.noteAnswer(err) != nil {
		return err
	}
	if err := r.noteAnswer(call()); !errors.Is(err, provider.ErrNotFound) {
		return err
	}
	_, err = readUser(ctx, p, r.item.UserID)
	return r.noteAnswer(err)
}

// updateUser gives the provider's user the holder's present description.
func (r *run) updateUser(ctx context.Context, p provider.Provider) error {
	if r.item.PersonHash != "" { // until the answer is here, the provider may know the holder by either description
		r.item.PersonHash = ""
		if err := r.Store.SaveWork(ctx, r.item); err != nil {
			return err
		}
	}
	if err := r.noteAnswer(p.UpdateUser(ctx, r.item.UserID, person(r.holder))); err != nil {
		return err
	}
	return r.rememberUser(ctx, r.item.UserID, personHash(r.holder))
}

// removePicture makes the provider's user show no picture: it does so on every badge, those of the future too.
func (r *run) removePicture(ctx context.Context, p provider.Provider) error {
	if r.item.PictureRef == "" {
		return nil
	}
	remove := func() error { return p.RemovePhoto(ctx, r.item.UserID, r.item.PictureRef) }
	if err := r.remove(ctx, p, remove); err != nil {
		return err
	}
	r.item.PictureRef = ""
	return r.Store.SaveWork(ctx, r.item)
}
