package local

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/mobilecred/mobilecred/internal/local/world"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
	"github.com/mobilecred/mobilecred/internal/samlocal"
	"github.com/mobilecred/mobilecred/internal/samlocal/awsapi"
)

// routes adds the page, the phones and the provider to the world. A phone has the badges of all accounts; what is asked
// of the provider is asked of the first account's, or of the one that ?account= names.
func (r *runner) routes() {
	w := r.world
	w.HandleRaw("/", world.Handler())
	w.Handle("GET /overview", func(*http.Request) (any, error) { return r.overview() })
	w.Handle("GET /phones", func(*http.Request) (any, error) { return r.phones(), nil })
	w.Handle("GET /phones/{id}", func(q *http.Request) (any, error) { return r.badges(q.PathValue("id")), nil })
	w.HandleMoving("POST /phones/{id}/{do}", r.phone)
	w.Handle("GET /provider", func(q *http.Request) (any, error) {
		c, err := r.customer(q)
		if err != nil {
			return nil, err
		}
		return c.sim.State(), nil
	})
	w.HandleMoving("POST /provider/{do}", r.administer)
	w.Handle("GET /provider/settings", func(q *http.Request) (any, error) {
		c, err := r.customer(q)
		if err != nil {
			return nil, err
		}
		return c.sim.Switches(), nil
	})
	w.HandleMoving("POST /provider/settings", r.settings)
}

// customer is the account that a request is about.
func (r *runner) customer(req *http.Request) (*customer, error) {
	name := cmp.Or(req.URL.Query().Get("account"), r.customers[0].account)
	i := slices.IndexFunc(r.customers, func(c *customer) bool { return c.account == name })
	if i < 0 {
		return nil, samlocal.Refuse(http.StatusNotFound, "this run has no account of that name; ACCOUNTS adds accounts")
	}
	return r.customers[i], nil
}

// settings changes the switches of the provider, of every account's unless one is named. It answers all of them.
func (r *runner) settings(req *http.Request) (any, error) {
	chosen, err := r.customer(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	for _, c := range r.customers {
		if c != chosen && req.URL.Query().Has("account") {
			continue
		}
		if err := c.sim.Set(body); err != nil {
			return nil, refused(err)
		}
	}
	return chosen.sim.Switches(), nil
}

// badges is a phone with the badges of all accounts.
func (r *runner) badges(id string) origosim.Phone {
	phone := r.customers[0].sim.Phone(id)
	for _, c := range r.customers[1:] {
		phone.Badges = append(phone.Badges, c.sim.Phone(id).Badges...)
	}
	return phone
}

func (r *runner) phones() []origosim.Phone {
	known := map[string]bool{}
	for _, c := range r.customers {
		for _, p := range c.sim.Phones() {
			known[p.DeviceID] = true
		}
	}
	phones := []origosim.Phone{}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		phones = append(phones, r.badges(id))
	}
	return phones
}

// withCode does something with an invitation code at the provider that knows it.
func (r *runner) withCode(do func(*origosim.Sim) error) (err error) {
	for _, c := range r.customers {
		if err = do(c.sim); !errors.Is(err, origosim.ErrUnknownCode) {
			break
		}
	}
	return err
}

// everywhere does something at every provider.
func (r *runner) everywhere(do func(*origosim.Sim) error) error {
	for _, c := range r.customers {
		if err := do(c.sim); err != nil {
			return err
		}
	}
	return nil
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
		err = r.withCode(func(s *origosim.Sim) error { return s.Redeem(id, body.Code) })
	case "decline":
		err = r.withCode(func(s *origosim.Sim) error { return s.Decline(body.Code) })
	case "accept":
		err = r.withCode(func(s *origosim.Sim) error { return s.Accept(id, body.Code) })
	case "sync":
		err = r.everywhere(func(s *origosim.Sim) error { return s.Sync(id) })
	case "fail":
		err = r.everywhere(func(s *origosim.Sim) error { return s.FailIssue(id) })
	case "remove":
		err = r.everywhere(func(s *origosim.Sim) error { return s.Remove(id) })
	case "reinstall":
		err = r.everywhere(func(s *origosim.Sim) (err error) {
			id, err = s.Reinstall(req.PathValue("id"))
			return err
		})
	default:
		err = samlocal.Refuse(http.StatusNotFound,
			"a phone can redeem, decline, accept, sync, fail, be removed or reinstall the app")
	}
	if err != nil {
		return nil, refused(err)
	}
	return r.badges(id), nil
}

func (r *runner) administer(req *http.Request) (any, error) {
	c, err := r.customer(req)
	if err != nil {
		return nil, err
	}
	var body struct {
		MobileID, ExternalID, Code, PartNumber, Email, DeviceID string
		Users, Events                                           int
		Forbidden                                               bool
	}
	if err := samlocal.Read(req, &body); err != nil {
		return nil, err
	}
	needs := func(name, value string) error {
		if value == "" {
			return samlocal.Refuse(http.StatusBadRequest, name+" is needed")
		}
		return nil
	}
	switch req.PathValue("do") {
	case "reassign":
		if err = needs("externalId", body.ExternalID); err == nil {
			err = c.sim.Reassign(body.MobileID, body.ExternalID)
		}
	case "reserve":
		_, err = c.sim.ReserveByHand(body.ExternalID, body.PartNumber)
	case "existing":
		if err = cmp.Or(needs("externalId", body.ExternalID), needs("email", body.Email)); err == nil {
			_, err = c.sim.AddExisting(origosim.Existing{ExternalID: body.ExternalID, Email: body.Email,
				Phone: body.DeviceID, PartNumber: body.PartNumber})
		}
	case "strangers":
		err = strangers(c.sim, body.Users, body.Events)
	case "cancel":
		err = c.sim.Cancel(body.Code)
	case "revoke":
		err = c.sim.Revoke(body.MobileID)
	case "forbid":
		err = c.sim.Forbid(body.MobileID, body.Forbidden)
	case "unbind":
		err = c.sim.Unbind(body.MobileID)
	default:
		err = samlocal.Refuse(http.StatusNotFound,
			"an administrator can reassign, reserve, cancel or revoke; existing, strangers, forbid and unbind make weather")
	}
	if err != nil {
		return nil, refused(err)
	}
	return c.sim.State(), nil
}

// strangers adds users of other systems, and lets those systems do things with all there are.
func strangers(sim *origosim.Sim, users, events int) error {
	const most = 10_000
	if users < 0 || events < 0 || users > most || events > most {
		return samlocal.Refuse(http.StatusBadRequest, "users and events are numbers up to 10000")
	}
	if _, err := sim.AddStrangers(users); err != nil {
		return err
	}
	if events == 0 {
		return nil
	}
	return sim.StirStrangers(events)
}

// refused gives the provider's refusals their status.
func refused(err error) error {
	switch {
	case errors.Is(err, origosim.ErrUnknownCode), errors.Is(err, origosim.ErrUnknownMobileID),
		errors.Is(err, origosim.ErrUnknownUser):
		return samlocal.Refuse(http.StatusNotFound, err.Error())
	case errors.Is(err, origosim.ErrDead):
		return samlocal.Refuse(http.StatusGone, err.Error())
	case errors.Is(err, origosim.ErrDelivered):
		return samlocal.Refuse(http.StatusPreconditionFailed, err.Error())
	case errors.Is(err, origosim.ErrTaken), errors.Is(err, origosim.ErrNoneLeft):
		return samlocal.Refuse(http.StatusConflict, err.Error())
	case errors.Is(err, origosim.ErrSetting):
		return samlocal.Refuse(http.StatusUnprocessableEntity, err.Error())
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
		for _, c := range r.customers {
			if inv, ok := c.sim.Invitation(m.Code); ok && m.Code != "" {
				p.Invitation = &inv
			}
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
		"mails": shown, "phones": r.phones(), "provider": r.customers[0].sim.State(),
		"events": events, "mailCount": mailCount,
		"clock": r.world.Time(), "faults": ordered, "deadletters": len(letters),
	}, nil
}
