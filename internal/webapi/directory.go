package webapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/problem"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Directory stores the profiles, holders and pictures that the portal describes; *issuance.Service does. Refusals are
// *credential.Error; any other error means that a service it depends on failed. The results are as stored, and created
// says that there was none of that id before.
type Directory interface {
	PutProfile(context.Context, credential.PutProfile) (p credential.Profile, created bool, err error)
	RetireProfile(ctx context.Context, profileID string, r credential.Request) error
	PutHolder(context.Context, credential.PutHolder) (h credential.Holder, created bool, err error)
	PatchHolder(context.Context, credential.PatchHolder) (credential.Holder, error)
	PutPicture(ctx context.Context, holderID string, p credential.Picture, r credential.Request) error
	RemovePicture(ctx context.Context, holderID string, r credential.Request) error
}

// Stocks reads how many mobile IDs a part number had when the provider was last asked; store.ErrNotFound when it was
// never asked.
type Stocks interface {
	Stock(ctx context.Context, account, partNumber string) (credential.Stock, error)
}

// NewDirectory returns the API of the function directory. Profiles may name one of the accounts. normalize is
// picture.Normalize; it is a parameter so that only the function directory links image decoders. NewDirectory panics in
// a binary without time zones (import time/tzdata).
func NewDirectory(
	store Directory, stocks Stocks, accounts []string, normalize func([]byte) (credential.Picture, error),
	now func() time.Time,
) Handler {
	needTimeZones()
	d := directory{store, stocks, accounts, normalize}
	return serve(now, map[string]operation{
		"PUT /v1/profiles/{profileId}":          d.putProfile,
		"DELETE /v1/profiles/{profileId}":       d.retireProfile,
		"PUT /v1/holders/{holderId}":            d.putHolder,
		"PATCH /v1/holders/{holderId}":          d.patchHolder,
		"PUT /v1/holders/{holderId}/picture":    d.putPicture,
		"DELETE /v1/holders/{holderId}/picture": d.removePicture,
	})
}

// maxPicture is in bytes. Encoded as base64, a picture of this size stays under the 6 MB that Lambda passes to a
// function.
const maxPicture = 4 << 20

type directory struct {
	Directory
	Stocks
	accounts  []string
	normalize func([]byte) (credential.Picture, error)
}

func (d directory) putProfile(ctx context.Context, c *call) (answer, error) {
	wrong := c.creatable()
	r, wrongActor := c.request()
	revision, wrongMatch := c.ifMatch()
	body, _, err := c.json(false)
	if err != nil {
		return answer{}, err
	}
	p := body.profile(d.accounts)
	p.ID = c.profileID
	isNew, wrongNone := c.ifNoneMatch()
	if err := invalid(wrong, wrongActor, wrongMatch, wrongNone, *body.wrong); err != nil {
		return answer{}, err
	}
	p, created, err := d.PutProfile(ctx, credential.PutProfile{
		Request: r, Profile: p, IfRevision: revision, IfNew: isNew,
	})
	if err != nil {
		return answer{}, err
	}
	stock, err := stockOf(ctx, d.Stocks, p)
	if err != nil {
		return answer{}, err
	}
	return stored(created, viewProfile(p, stock), p.Revision), nil
}

func (d directory) retireProfile(ctx context.Context, c *call) (answer, error) {
	r, err := c.bare()
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, d.RetireProfile(ctx, c.profileID, r)
}

func (d directory) putHolder(ctx context.Context, c *call) (answer, error) {
	wrong := c.creatable()
	r, wrongActor := c.request()
	revision, wrongMatch := c.ifMatch()
	body, _, err := c.json(false)
	if err != nil {
		return answer{}, err
	}
	h := body.holder()
	h.ID = c.holderID
	isNew, wrongNone := c.ifNoneMatch()
	if err := invalid(wrong, wrongActor, wrongMatch, wrongNone, *body.wrong); err != nil {
		return answer{}, err
	}
	h, created, err := d.PutHolder(ctx, credential.PutHolder{
		Request: r, Holder: h, IfRevision: revision, IfNew: isNew,
	})
	if err != nil {
		return answer{}, err
	}
	return stored(created, viewHolder(h), h.Revision), nil
}

// patchHolder changes the fields that the body has. Whether the result is right shows only with the stored holder, so
// everything that is wrong is said once that is read.
func (d directory) patchHolder(ctx context.Context, c *call) (answer, error) {
	if err := c.existing(); err != nil {
		return answer{}, err
	}
	r, wrongActor := c.request()
	revision, wrongMatch := c.ifMatch()
	body, err := c.patch()
	if err != nil {
		return answer{}, err
	}
	h, err := d.PatchHolder(ctx, credential.PatchHolder{
		Request: r, HolderID: c.holderID, IfRevision: revision,
		Patch: func(stored credential.Holder) (credential.Holder, error) {
			patch := body.again()
			h := patch.over(stored)
			return h, invalid(wrongActor, wrongMatch, *patch.wrong)
		},
	})
	if err != nil {
		return answer{}, err
	}
	return stored(false, viewHolder(h), h.Revision), nil
}

func (d directory) putPicture(ctx context.Context, c *call) (answer, error) {
	if err := c.existing(); err != nil {
		return answer{}, err
	}
	r, wrong := c.request()
	if err := invalid(wrong); err != nil {
		return answer{}, err
	}
	data, err := c.body(maxPicture)
	if err != nil {
		return answer{}, err
	}
	if media, _ := c.contentType(); !slices.Contains([]string{"image/jpeg", "image/png"}, media) {
		return answer{}, credential.Refuse(problem.CodeUnsupportedMediaType,
			"The body has to be image/jpeg or image/png.")
	}
	p, err := d.normalize(data)
	if err != nil {
		return answer{}, err
	}
	p.HolderID = c.holderID
	return answer{status: http.StatusNoContent}, d.PutPicture(ctx, c.holderID, p, r)
}

func (d directory) removePicture(ctx context.Context, c *call) (answer, error) {
	r, err := c.bare()
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, d.RemovePicture(ctx, c.holderID, r)
}

func stored(created bool, view any, revision int64) answer {
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return answer{status, view, etag(revision)}
}

// stockOf returns nil when the provider was never asked for the stock.
func stockOf(ctx context.Context, stocks Stocks, p credential.Profile) (*credential.Stock, error) {
	stock, err := stocks.Stock(ctx, p.Account, p.PartNumber)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &stock, err
}
