package issuance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// carryOut carries out a command of the portal, once. decide says what to write and for which credential, anew whenever
// another request was faster; what that makes due is then done as far as it can be done now. A request whose key was
// carried out before changes nothing and returns what has become of its credential since. The key is looked at first,
// and again on every conflict and refusal: what refuses the request may be its own effect, by way of the same request
// sent twice.
func (s *Service) carryOut(
	ctx context.Context, r credential.Request, holderID string, decide func(*change) (credential.Credential, error),
) (credential.Result, error) {
	var c credential.Credential
	unchanged := false
	var replayed *credential.Result
	err := s.untilNoConflict(ctx, func() (err error) {
		if replayed, err = s.replay(ctx, r, holderID); replayed != nil || err != nil {
			return err
		}
		ch := s.begin()
		if c, err = decide(ch); err != nil {
			if _, isRefused := errors.AsType[*credential.Error](err); !isRefused {
				return err
			}
			var failed error
			if replayed, failed = s.replay(ctx, r, holderID); replayed != nil || failed != nil {
				return failed
			}
			return err
		}
		unchanged = ch.isEmpty()
		if err := s.rememberRequest(ctx, ch, r, holderID, c.ID); err != nil {
			return err
		}
		if ch.isEmpty() {
			return nil
		}
		return ch.commit(ctx)
	})
	if err != nil {
		return credential.Result{}, err
	}
	if replayed != nil {
		return *replayed, nil
	}
	working, stop := endingEarly(ctx)
	defer stop()
	if _, err := s.work(working, c.HolderID, c.Account, r.Actor, false); err != nil {
		// The command itself is stored, so it is done; only how far is not known to the caller.
		s.Log.ErrorContext(ctx, "left to the sweep", "holderId", c.HolderID, "account", c.Account, "error", err)
	}
	result, err := s.outcome(ctx, c)
	if err != nil {
		// It is stored, and an answer of "try again" would have the portal ask for it twice.
		s.Log.ErrorContext(ctx, "outcome not read", "holderId", c.HolderID, "credentialId", c.ID, "error", err)
		result = credential.Result{Credential: c, Holder: credential.Holder{ID: c.HolderID}}
	}
	if failed := refusalOf(result.Credential); failed != nil && c.IsLive() {
		return credential.Result{}, failed
	}
	result.Unchanged = unchanged
	return result, nil
}

// outcome reads what has become of a credential.
func (s *Service) outcome(ctx context.Context, c credential.Credential) (credential.Result, error) {
	h, c, err := s.credential(ctx, c.HolderID, c.ID)
	if err != nil {
		return credential.Result{}, err
	}
	standing, err := s.standing(ctx, c)
	return credential.Result{Credential: c, Holder: h, Standing: standing}, err
}

// answerReserve is kept free for reading the answer, when the work of a command hangs.
const answerReserve = 2 * time.Second

// endingEarly returns a context for the work of a command that is stored. It ends before ctx does, so that whatever
// hangs in the work, there is time to read what has become of the credential: the caller gets that, and not an error.
func endingEarly(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(-answerReserve))
}

// refusalOf is the error that stands for a failed credential; nil for any other.
func refusalOf(c credential.Credential) *credential.Error {
	if c.Status != credential.StatusFailed {
		return nil
	}
	e := &credential.Error{CredentialID: c.ID}
	switch c.Reason {
	case credential.ReasonNoLicenceLeft:
		e.Code, e.Detail = credential.CodeNoLicenceLeft, "The provider has no mobile ID left for this profile."
	case credential.ReasonEmailInUse:
		e.Code, e.Detail = credential.CodeEmailInUse, "The provider knows the holder's e-mail as another user's."
	default:
		e.Code, e.Detail = credential.CodeInvalidState, "The provider refused the assignment."
	}
	return e
}

// idempotencyFor is how long a key is remembered.
const idempotencyFor = 7 * 24 * time.Hour

// replay returns the result of an earlier request with the same key, nil when there was none. It refuses a key that was
// used with another payload, and one whose credential has failed since, as the request itself would have been: an
// answer of success would make the portal count it as done.
func (s *Service) replay(ctx context.Context, r credential.Request, holderID string) (*credential.Result, error) {
	if r.Key == "" {
		return nil, nil
	}
	h, err := s.Store.Holder(ctx, holderID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	known, err := s.Store.Idempotency(ctx, holderID, keyHash(r, h))
	if errors.Is(err, store.ErrNotFound) || err == nil && !s.Now().Before(known.ExpiresAt) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if known.Payload != r.PayloadHash {
		return nil, credential.Refuse(credential.CodeIdempotencyKeyReused,
			"The Idempotency-Key was used with another payload.")
	}
	c, err := s.Store.Credential(ctx, holderID, known.CredentialID)
	if err != nil {
		return nil, err
	}
	if failed := refusalOf(c); failed != nil {
		failed.Replayed = true
		return nil, failed
	}
	standing, err := s.standing(ctx, c)
	return &credential.Result{Credential: c, Holder: h, Standing: standing, Replayed: true}, err
}

// rememberRequest adds to a change what a request with an Idempotency-Key led to, so that it is kept with the effect.
func (s *Service) rememberRequest(
	ctx context.Context, ch *change, r credential.Request, holderID, credentialID string,
) error {
	if r.Key == "" {
		return nil
	}
	holder := ch.written.Holder
	if holder == nil {
		known, err := s.holder(ctx, holderID)
		if err != nil {
			return err
		}
		holder = &known
	}
	ch.remember(&credential.Idempotency{
		HolderID: holderID, Hash: keyHash(r, *holder), Payload: r.PayloadHash, CredentialID: credentialID,
		ExpiresAt: s.Now().Add(idempotencyFor),
	})
	return nil
}

// keyHash identifies a request by the client, the route, the key and the holder. Each client has its own keys, and so
// has each person: another one who comes under the id of an erased holder gets no answer that was meant for the first.
func keyHash(r credential.Request, h credential.Holder) string {
	parts := []string{r.Actor.ID, r.Route, r.Key, h.CreatedAt.UTC().Format(time.RFC3339Nano)}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}
