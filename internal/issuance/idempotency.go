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

// idempotencyFor is how long a key is remembered.
const idempotencyFor = 7 * 24 * time.Hour

// replay returns the result of an earlier request with the same key, nil when there was none. It refuses a key that was used with
// another payload.
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
		return nil, credential.Refuse(credential.CodeIdempotencyKeyReused, "The Idempotency-Key was used with another payload.")
	}
	h, c, err := s.credential(ctx, holderID, known.CredentialID)
	if err != nil {
		return nil, err
	}
	return &credential.Result{Credential: c, Holder: h, Replayed: true}, nil
}

// remember is the record to write with the effect of a request; nil without a key.
func (s *Service) remember(r credential.Request, holderID, credentialID string) *credential.Idempotency {
	if r.Key == "" {
		return nil
	}
	return &credential.Idempotency{
		HolderID: holderID, Hash: keyHash(r), Payload: r.PayloadHash, CredentialID: credentialID,
		ExpiresAt: s.Now().Add(idempotencyFor),
	}
}

func keyHash(r credential.Request) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{r.Actor.ID, r.Route, r.Key}, "\x00")))
	return hex.EncodeToString(sum[:16])
}
