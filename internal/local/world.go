package local

import (
	"errors"
	"net/http"

	"github.com/mobilecred/mobilecred/internal/local/world"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/samlocal"
	"github.com/mobilecred/mobilecred/internal/samlocal/awsapi"
)

// routes adds the page, the phones and the provider to the world.
func (r *runner) routes() {
	w := r.world
	w.HandleRaw("/", world.Handler())
	w.Handle("GET /overview", func(*http.Request) (any, error) { return r.overview() })
	w.Handle("GET /phones", func(*http.Request) (any, error) { return r.sim.Phones(), nil })
	w.Handle("GET /phones/{id}", func(q *http.Request) (any, error) { return r.sim.Phone(q.PathValue("id")), nil })
	w.HandleMoving("POST /phones/{id}/{do}", r.phone)
	w.Handle("GET /provider", func(*http.Request) (any, error) { return r.sim.State(), nil })
	w.HandleMoving("POST /provider/{do}", r.administer)
}

func (r *runner) phone(req *http.Request) (any, error) {
	id := req.PathValue("id")
	var body struct{ Code string }
	if err := samlocal.Read(req, &body); err != nil {
		return nil, err
	}
	var err error
	switch req.PathValue("do") {
	case "redeem":
		err = r.sim.Redeem(id, body.Code)
	case "decline":
		err = r.sim.Decline(body.Code)
	case "accept":
		err = r.sim.Accept(id, body.Code)
	case "sync":
		err = r.sim.Sync(id)
	case "remove":
		err = r.sim.Remove(id)
	default:
		err = samlocal.Refuse(http.StatusNotFound, "a phone can redeem, decline, accept, sync or be removed")
	}
	if err != nil {
		return nil, refused(err)
	}
	return r.sim.Phone(id), nil
}

func (r *runner) administer(req *http.Request) (any, error) {
	var body struct{ MobileID, ExternalID, Code string }
	if err := samlocal.Read(req, &body); err != nil {
		return nil, err
	}
	var err error
	switch req.PathValue("do") {
	case "reassign":
		if body.ExternalID == "" {
			return nil, samlocal.Refuse(http.StatusBadRequest, "externalId is needed")
		}
		err = r.sim.Reassign(body.MobileID, body.ExternalID)
	case "cancel":
		err = r.sim.Cancel(body.Code)
	case "revoke":
		err = r.sim.Revoke(body.MobileID)
	default:
		err = samlocal.Refuse(http.StatusNotFound, "an administrator can reassign, cancel or revoke")
	}
	if err != nil {
		return nil, refused(err)
	}
	return r.sim.State(), nil
}

// refused gives the provider's refusals their status.
func refused(err error) error {
	switch {
	case errors.Is(err, origosim.ErrUnknownCode), errors.Is(err, origosim.ErrUnknownMobileID):
		return samlocal.Refuse(http.StatusNotFound, err.Error())
	case errors.Is(err, origosim.ErrDead):
		return samlocal.Refuse(http.StatusGone, err.Error())
	case errors.Is(err, origosim.ErrTaken):
		return samlocal.Refuse(http.StatusConflict, err.Error())
	}
	return err
}

// How much the page gets: a page that is open asks again at every change.
const (
	pageMails  = 500
	pageEvents = 200
)

type pageMail struct {
	awsapi.Mail
	Invitation *origosim.InvitationState `json:"invitation,omitempty"`
}

// overview is all that the page shows, newest first.
func (r *runner) overview() (any, error) {
	mails, mailCount, err := r.world.NewestMails(pageMails)
	if err != nil {
		return nil, err
	}
	shown := []pageMail{}
	for _, m := range mails {
		p := pageMail{Mail: m}
		if inv, ok := r.sim.Invitation(m.Code); ok && m.Code != "" {
			p.Invitation = &inv
		}
		shown = append(shown, p)
	}
	events, err := r.world.NewestEvents(pageEvents)
	if err != nil {
		return nil, err
	}
	letters, err := r.world.DeadLetters()
	if err != nil {
		return nil, err
	}
	ordered, err := r.world.Faults().List()
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"mails": shown, "phones": r.sim.Phones(), "provider": r.sim.State(),
		"events": events, "mailCount": mailCount,
		"clock": r.world.Time(), "faults": ordered, "deadletters": len(letters),
	}, nil
}
