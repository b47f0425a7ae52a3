package webapi

import (
	"context"
	"net/http"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// Assigner gives credentials to holders and mails their invitations; *issuance.Service does. Refusals are
// *credential.Error; any other error means that a service it depends on failed.
type Assigner interface {
	Assign(context.Context, credential.Assign) (credential.Result, error)
	Resend(context.Context, credential.Resend) (credential.Result, error)
	Replace(context.Context, credential.Replace) (credential.Result, error)
}

// NewAssign returns the API of the function assign. It panics in a binary without time zones (import time/tzdata).
func NewAssign(assigner Assigner, now func() time.Time) Handler {
	needTimeZones()
	a := assign{assigner}
	const credentials = "POST /v1/holders/{holderId}/credentials"
	return serve(now, map[string]operation{
		credentials: a.assign,
		credentials + "/{credentialId}/invitation":  a.resend,
		credentials + "/{credentialId}/replacement": a.replace,
	})
}

type assign struct{ Assigner }

func (a assign) assign(ctx context.Context, c *call) (answer, error) {
	// The body may describe the holder, who is then stored under the id in the path.
	wrong := c.creatable()
	r, wrongHeaders := c.request()
	body, hash, err := c.json(false)
	if err != nil {
		return answer{}, err
	}
	r.PayloadHash = hash
	cmd := credential.Assign{Request: r, HolderID: c.holderID}
	body.text("profileId", &cmd.ProfileID, isID)
	body.flag("ifNone", &cmd.IfNone)
	body.flag("wait", &cmd.Wait)
	if body.get("holder") != nil {
		h := body.object("holder").holder()
		h.ID = c.holderID
		cmd.Holder = &h
	}
	body.done()
	if err := invalid(wrong, wrongHeaders, *body.wrong); err != nil {
		return answer{}, err
	}
	result, err := a.Assign(ctx, cmd)
	if err != nil {
		return answer{}, err
	}
	return c.issued(result), nil
}

func (a assign) resend(ctx context.Context, c *call) (answer, error) {
	r, err := c.bare()
	if err != nil {
		return answer{}, err
	}
	result, err := a.Resend(ctx, credential.Resend{Request: r, HolderID: c.holderID, CredentialID: c.credentialID})
	if err != nil {
		return answer{}, err
	}
	return c.result(http.StatusAccepted, result), nil
}

func (a assign) replace(ctx context.Context, c *call) (answer, error) {
	if err := c.existing(); err != nil {
		return answer{}, err
	}
	r, wrong := c.request()
	body, hash, err := c.json(false)
	if err != nil {
		return answer{}, err
	}
	r.PayloadHash = hash
	var reason string
	body.required("reason", &reason, oneOf(credential.EndLost, credential.EndStolen, credential.EndUpgrade))
	body.done()
	if err := invalid(wrong, *body.wrong); err != nil {
		return answer{}, err
	}
	result, err := a.Replace(ctx, credential.Replace{
		Request: r, HolderID: c.holderID, CredentialID: c.credentialID, Reason: credential.EndReason(reason)})
	if err != nil {
		return answer{}, err
	}
	return c.issued(result), nil
}

// bare reads a call about an existing resource that needs no body. An empty JSON object counts as no body.
func (c *call) bare() (credential.Request, error) {
	if err := c.existing(); err != nil {
		return credential.Request{}, err
	}
	r, wrong := c.request()
	body, hash, err := c.json(true)
	if err != nil {
		return r, err
	}
	body.done()
	if r.PayloadHash = hash; len(body.fields) == 0 {
		r.PayloadHash = ""
	}
	return r, invalid(wrong, *body.wrong)
}

// issued answers with a new credential: 201 when its invitation was sent, 202 while that is still to come.
func (c *call) issued(result credential.Result) answer {
	status := http.StatusCreated
	if result.Unchanged { // a replacement that is on its way already
		return c.result(http.StatusOK, result)
	}
	if result.Credential.Invitation.Status == credential.InvitationPending {
		status = http.StatusAccepted
	}
	a := c.result(status, result)
	if !result.Replayed {
		a.header["Location"] = "/v1/holders/" + result.Credential.HolderID + "/credentials/" + result.Credential.ID
	}
	return a
}

// result answers with the credential that a command led to; a replay is always 200.
func (c *call) result(status int, result credential.Result) answer {
	c.credentialID = result.Credential.ID
	a := answer{
		status,
		viewCredential(result.Credential, result.Holder, result.Standing, c.now),
		etag(result.Credential.Revision),
	}
	if result.Replayed {
		a.status = http.StatusOK
		a.header["Idempotent-Replayed"] = "true"
	}
	return a
}
