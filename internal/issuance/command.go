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
// carried out before changes nothing and returns what has become of its credential since.
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
			return err
		}
		unchanged = ch.isEmpty()
		ch.remember(s.idempotency(r, holderID, c.ID))
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
	if _, err := s.work(ctx, c.HolderID, c.Account, r.Actor, false); err != nil {
		// The command itself is stored, so it is done; only how far is not known to the caller.
		s.Log.ErrorContext(ctx, "left to the sweep", "holderId", c.HolderID, "account", c.Account, "error", err)
	}
	wasLive := c.IsLive()
	h, c, err := s.credential(ctx, c.HolderID, c.ID)
	if err != nil {
		return credential.Result{}, err
	}
	standing, err := s.standing(ctx, c)
	if err != nil {
		return credential.Result{}, err
	}
	if wasLive {
		err = refusalOf(c)
	}
	return credential.Result{Credential: c, Holder: h, Standing: standing, Unchanged: unchanged}, err
}

// refusalOf is the error that stands for a failed credential; nil for any other.
func refusalOf(c credential.Credential) error {
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
// used with another payload.
func (s *Service) replay(ctx context.Context, r credential.Request, holderID string) (*credential.Result, error) {
	if r.Key == "" {
		return nil, nil
	}
	known, err := s.Store.Idempotency(ctx, holderID, keyHash(r))
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
	h, c, err := s.credential(ctx, holderID, known.CredentialID)
	if err != nil {
		return nil, err
	}
	standing, err := s.standing(ctx, c)
	return &credential.Result{Credential: c, Holder: h, Standing: standing, Replayed: true}, err
}

// idempotency is the record to write with the effect of a request; nil without a key.
func (s *Service) idempotency(r credential.Request, holderID, credentialID string) *credential.Idempotency {
	if r.Key == "" {
		return nil
	}
	return &credential.Idempotency{
		HolderID: holderID, Hash: keyHash(r), Payload: r.PayloadHash, CredentialID: credentialID,
		ExpiresAt: s.Now().Add(idempotencyFor),
	}
}

// keyHash identifies a request by the client, the route and the key. Each client has its own keys.
func keyHash(r credential.Request) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{r.Actor.ID, r.Route, r.Key}, "\x00")))
	return hex.EncodeToString(sum[:16])
}
