package webapi

import (
	"context"
	"net/http"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// Ender ends credentials and erases holders; *issuance.Service does. Refusals are *credential.Error; any other error
// means that a service it depends on failed.
type Ender interface {
	End(context.Context, credential.End) (credential.Result, error)
	Erase(ctx context.Context, holderID string, r credential.Request) error
}

// NewRevoke returns the API of the function revoke.
func NewRevoke(ender Ender, now func() time.Time) Handler {
	r := revoke{ender}
	const one = " /v1/holders/{holderId}/credentials/{credentialId}"
	return serve(now, map[string]operation{
		"POST" + one + "/lost":          r.end(credential.EndLost),
		"POST" + one + "/stolen":        r.end(credential.EndStolen),
		"DELETE" + one:                  r.end(credential.EndDeleted),
		"DELETE /v1/holders/{holderId}": r.erase,
	})
}

type revoke struct{ Ender }

func (e revoke) end(reason credential.EndReason) operation {
	return func(ctx context.Context, c *call) (answer, error) {
		r, err := c.bare()
		if err != nil {
			return answer{}, err
		}
		result, err := e.End(ctx, credential.End{Request: r, HolderID: c.holderID, CredentialID: c.credentialID,
			Reason: reason})
		if err != nil {
			return answer{}, err
		}
		status := http.StatusOK
		if state, _ := credential.Sync(result.Credential, result.Holder, c.now); state != credential.SyncSynced {
			status = http.StatusAccepted
		}
		return c.result(status, result), nil
	}
}

func (e revoke) erase(ctx context.Context, c *call) (answer, error) {
	r, err := c.bare()
	if err != nil {
		return answer{}, err
	}
	if err := e.Erase(ctx, c.holderID, r); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusAccepted, body: erasingView{c.holderID, true}}, nil
}
