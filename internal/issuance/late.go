package issuance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// A request that we gave up on may be carried out later, when its doubt has long been settled without it. So a doubt
// that was settled without its answer is remembered: what a later reading finds of it is released, or taken after all
// by the row that still needs it.

// recheckAgain is how long to wait for the settlement of another doubt before users are read again.
const recheckAgain = time.Minute

// remembering adds a row's doubt to those that were settled without their answer.
func (s *Service) remembering(c credential.Credential) []credential.Doubt {
	now := s.Now()
	kept := slices.DeleteFunc(slices.Clone(c.Unanswered), func(d credential.Doubt) bool {
		return d.ID == c.Doubt.ID || now.Sub(d.At) >= credential.UnansweredFor
	})
	return append(kept, *c.Doubt)
}

// reopen makes an earlier doubt of a row its doubt again, when what a user has may be the answer to it; false when
// there is none.
func (r *run) reopen(ctx context.Context, c credential.Credential, u provider.User) (bool, error) {
	if len(c.Unanswered) == 0 {
		return false, nil
	}
	rows, err := r.rowsHere(ctx)
	if err != nil {
		return false, err
	}
	late, explained, _ := observe.Late(c, rows, u)
	if len(late) == 0 {
		return false, nil
	}
	i := slices.IndexFunc(c.Unanswered, func(d credential.Doubt) bool { return d.ID == explained[0] })
	doubt := c.Unanswered[i]
	c.Unanswered = slices.Delete(slices.Clone(c.Unanswered), i, i+1)
	c.Reservation, c.Doubt = credential.ReservationInDoubt, &doubt
	return true, r.save(ctx, &c)
}

// rowsHere are the holder's rows at the account.
func (r *run) rowsHere(ctx context.Context) ([]credential.Credential, error) {
	rows, err := r.Store.Credentials(ctx, r.item.HolderID)
	return slices.DeleteFunc(rows, func(c credential.Credential) bool { return c.Account != r.item.Account }), err
}

// recheck reads the holder's users once more when no request of the row can be carried out any more, and has what it
// finds released. A second user that such a request made is removed.
func (r *run) recheck(ctx context.Context, c credential.Credential) error {
	users, err := r.usersOfHolder(ctx)
	if err != nil {
		return err
	}
	rows, err := r.rowsHere(ctx)
	if err != nil {
		return err
	}
	var strays []credential.Reserved
	var explained []string
	var undecided bool
	for _, u := range users {
		late, by, more := observe.Late(c, rows, u)
		strays, explained = append(strays, late...), append(explained, by...)
		undecided = undecided || more
	}
	if len(strays) > 0 {
		return r.edit(ctx, c, addStrays(strays, explained))
	}
	for _, u := range users {
		if err := r.removeSecondUser(ctx, c, u); err != nil {
			return err
		}
	}
	now := r.Now()
	return r.edit(ctx, c, func(c *credential.Credential) bool {
		for i, d := range c.Unanswered {
			switch {
			case d.Rechecked || now.Sub(d.At) < credential.LateFor:
			case undecided: // by then the other doubt is settled
				c.Unanswered[i].RecheckAt = now.Add(recheckAgain)
			default:
				c.Unanswered[i].Rechecked = true
			}
		}
		if c.Retry.For == credential.StepRecheck {
			c.Retry = credential.Retry{}
		}
		return true
	})
}

// addStrays adds what was found late to what a row has to release. Each doubt explains one reservation, once; but it is
// rechecked until nothing of it is left.
func addStrays(strays []credential.Reserved, explained []string) func(*credential.Credential) bool {
	return func(c *credential.Credential) bool {
		var added bool
		c.Unanswered = slices.Clone(c.Unanswered)
		for i, t := range strays {
			at := slices.IndexFunc(c.Unanswered, func(d credential.Doubt) bool {
				return d.ID == explained[i] && !d.Explained
			})
			if at < 0 { // another process found it, too
				continue
			}
			added = true
			c.Strays = append(slices.Clone(c.Strays), t)
			c.Unanswered[at].Explained, c.Unanswered[at].UserID = true, t.UserID
		}
		return added
	}
}

// usersOfHolder reads every user that the provider may have for the holder: the one we know, and those that a search by
// the holder's addresses finds.
func (r *run) usersOfHolder(ctx context.Context) ([]provider.User, error) {
	p, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	var users []provider.User
	if r.item.UserID != "" {
		u, err := readUser(ctx, p, r.item.UserID)
		if r.noteAnswer(err) != nil {
			return nil, err
		}
		if u != nil {
			users = append(users, *u)
		}
	}
	for _, email := range []string{r.holder.Email, r.holder.FormerEmail} {
		if email == "" {
			continue
		}
		by := person(r.holder)
		by.Email = email
		found, err := p.FindUsers(ctx, by)
		if r.noteAnswer(err) != nil {
			return nil, err
		}
		for _, u := range found {
			if !slices.ContainsFunc(users, func(known provider.User) bool { return known.ID == u.ID }) {
				users = append(users, u)
			}
		}
	}
	if r.item.UserID == "" && len(users) > 0 {
		return users, r.rememberUser(ctx, users[0].ID, "")
	}
	return users, nil
}

// removeSecondUser removes a user of the holder beside the one in use, when a request that was carried out late has
// made it and nothing is left in it.
func (r *run) removeSecondUser(ctx context.Context, c credential.Credential, u provider.User) error {
	isOurs := slices.ContainsFunc(c.Unanswered, func(d credential.Doubt) bool {
		return d.UserID == "" || d.UserID == u.ID
	})
	if u.ID == r.item.UserID || !isOurs {
		return nil
	}
	isPending := func(i provider.Invitation) bool { return i.Status == provider.InvitationPending }
	if len(u.Credentials) > 0 || slices.ContainsFunc(u.Invitations, isPending) {
		return nil // what another system made of it, or of what we still release
	}
	p, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if err := r.noteAnswer(p.DeleteUser(ctx, u.ID)); err != nil && !errors.Is(err, provider.ErrNotFound) {
		return err
	}
	return nil
}
