package origosim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"image"
	_ "image/jpeg" // photos are JPEG
	_ "image/png"  // or PNG
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// userRequest is the body that creates or changes a user, or asks for an invitation.
type userRequest struct {
	ExternalID string `json:"externalId"`
	Name       struct {
		FamilyName string `json:"familyName"`
		GivenName  string `json:"givenName"`
	} `json:"name"`
	Emails []struct {
		Value string `json:"value"`
	} `json:"emails"`
	Action userAction `json:"urn:hid:scim:api:ma:2.2:UserAction"`
}

func (r *userRequest) email() string {
	if len(r.Emails) == 0 {
		return ""
	}
	return r.Emails[0].Value
}

type userAction struct {
	CreateInvitationCode string `json:"createInvitationCode"`
	SendInvitationEmail  string `json:"sendInvitationEmail"`
	AssignCredential     string `json:"assignCredential"`
	PartNumber           string `json:"partNumber"`
	Credential           string `json:"credential"`
}

func (a userAction) validate() error {
	for _, flag := range []string{a.CreateInvitationCode, a.SendInvitationEmail, a.AssignCredential} {
		if flag != "" && flag != "Y" && flag != "N" {
			return invalid(`a flag of UserAction is "Y" or "N"`)
		}
	}
	if a.SendInvitationEmail == "Y" {
		return invalid("this simulator sends no mail")
	}
	if a.AssignCredential == "Y" && a.CreateInvitationCode != "Y" {
		return invalid("assignCredential needs createInvitationCode")
	}
	return nil
}

// act makes the invitation and the reservation a request asks for, either may be nil.
func (s *Sim) act(st *state, now time.Time, u *user, a userAction) (*invitation, *credential, []cloudEvent, error) {
	if a.CreateInvitationCode != "Y" {
		return nil, nil, nil, nil
	}
	if a.AssignCredential != "Y" {
		inv := st.addInvitation(u, now, 0)
		return inv, nil, []cloudEvent{s.invitationEvent(u, inv, "INVITATION_PENDING")}, nil
	}
	p := st.partNumber(a.PartNumber)
	if p == nil {
		return nil, nil, nil, invalid("unknown part number")
	}
	free := p.available()
	if a.Credential != "" {
		free = slices.DeleteFunc(free, func(n int) bool { return strconv.Itoa(n) != a.Credential })
	}
	if len(free) == 0 {
		return nil, nil, nil,
			&refusal{http.StatusBadRequest, "poolExhausted", "no mobile ID is available for this part number"}
	}
	c := st.addCredential(u, now, p, free[0])
	inv := st.addInvitation(u, now, c.ID)
	return inv, c, []cloudEvent{s.invitationEvent(u, inv, "INVITATION_PENDING"), s.reservedEvent(u, c)}, nil
}

func (s *Sim) createUser(c call) (rep reply, err error) {
	var req userRequest
	if err := c.decode(&req); err != nil {
		return reply{}, err
	}
	if err := req.Action.validate(); err != nil {
		return reply{}, err
	}
	if req.email() == "" || req.Name.FamilyName == "" || req.Name.GivenName == "" {
		return reply{}, invalid("emails, name.familyName and name.givenName are required")
	}
	err = s.change(func(st *state, now time.Time) error {
		if st.userByEmail(req.email()) != nil && !st.Switches.TakenEmailMakesSecondUser {
			return duplicateEmail()
		}
		u := st.addUser(user{ExternalID: req.ExternalID, GivenName: req.Name.GivenName, FamilyName: req.Name.FamilyName,
			Email: req.email()}, now)
		inv, cred, events, err := s.act(st, now, u, req.Action)
		if err != nil {
			return err
		}
		st.emit(now, append([]cloudEvent{s.userEvent(u, "USER_CREATED")}, events...)...)
		body := s.userBody(u)
		s.addNew(st, body, inv, cred)
		rep = reply{http.StatusCreated, body}
		return nil
	})
	return rep, err
}

func (s *Sim) invite(c call) (rep reply, err error) {
	var req userRequest
	if err := c.decode(&req); err != nil {
		return reply{}, err
	}
	if err := req.Action.validate(); err != nil {
		return reply{}, err
	}
	if req.Action.CreateInvitationCode != "Y" {
		return reply{}, invalid("createInvitationCode is required")
	}
	err = s.change(func(st *state, now time.Time) error {
		u := st.user(c.id("id"))
		if u == nil {
			return notFound("user")
		}
		inv, cred, events, err := s.act(st, now, u, req.Action)
		if err != nil {
			return err
		}
		st.emit(now, events...)
		body := map[string]any{"schemas": []string{}}
		s.addNew(st, body, inv, cred)
		rep = reply{http.StatusOK, body}
		return nil
	})
	return rep, err
}

func duplicateEmail() error {
	return &refusal{http.StatusConflict, "uniqueness", "a user with this email exists already"}
}

func (s *Sim) search(c call) (rep reply, err error) {
	var req struct {
		Filter     string `json:"filter"`
		StartIndex int    `json:"startIndex"`
		Count      int    `json:"count"`
	}
	if err := c.decode(&req); err != nil {
		return reply{}, err
	}
	attribute, value, ok := parseFilter(req.Filter)
	switches := s.switchesFor(c)
	if !ok || attribute == "externalId" && !switches.SearchByExternalID {
		return reply{}, &refusal{http.StatusBadRequest, "invalidFilter", "the filter is not supported"}
	}
	err = s.read(func(st *state) {
		hits := []any{}
		found := st.externalIDs.all(value)
		if attribute == "emails" {
			found = st.emails.all(fold(value))
		}
		for _, u := range found {
			if switches.SearchLags && isYoung(u.Created, s.opts.Now()) {
				continue
			}
			body := s.userBody(u)
			hits = append(hits, map[string]any{"meta": body["meta"], "name": body["name"], "emails": body["emails"]})
		}
		rep = reply{http.StatusOK, listBody(hits, req.StartIndex, req.Count, 100)}
	})
	return rep, err
}

var filterPattern = regexp.MustCompile(`^(emails|externalId) eq ("(?:[^"\\]|\\.)*")$`)

func parseFilter(filter string) (attribute, value string, ok bool) {
	m := filterPattern.FindStringSubmatch(filter)
	if m == nil || json.Unmarshal([]byte(m[2]), &value) != nil {
		return "", "", false
	}
	return m[1], value, true
}

func (s *Sim) getUser(c call) (rep reply, err error) {
	err = s.change(func(st *state, now time.Time) error {
		u := st.user(c.id("id"))
		if u == nil {
			return notFound("user")
		}
		seen := seenBy(u, st.Switches, now)
		if isUndisturbed(c.Context()) {
			seen = u
		} else if u.Partial && len(seen.Credentials) > 0 {
			seen.Credentials = seen.Credentials[:len(seen.Credentials)-1]
			st.edit(u, func() { u.Partial = false })
		}
		rep = reply{http.StatusOK, s.fullUserBody(st, seen)}
		return nil
	})
	return rep, err
}

func (s *Sim) putUser(c call) (rep reply, err error) {
	var req userRequest
	if err := c.decode(&req); err != nil {
		return reply{}, err
	}
	return s.changeUser(c, []string{"USER_UPDATED"}, func(st *state, u *user) (reply, error) {
		if email := req.email(); email != "" {
			if other := st.userByEmail(email); other != nil && other != u {
				return reply{}, duplicateEmail()
			}
		}
		st.edit(u, func() {
			u.Email = cmp.Or(req.email(), u.Email)
			u.GivenName = cmp.Or(req.Name.GivenName, u.GivenName)
			u.FamilyName = cmp.Or(req.Name.FamilyName, u.FamilyName)
			u.ExternalID = cmp.Or(req.ExternalID, u.ExternalID)
		})
		return reply{http.StatusOK, s.fullUserBody(st, seenBy(u, st.Switches, s.opts.Now()))}, nil
	})
}

// changeUser changes the user named in the path and tells of it with events of the given statuses.
func (s *Sim) changeUser(c call, statuses []string, fn func(*state, *user) (reply, error)) (rep reply, err error) {
	err = s.change(func(st *state, now time.Time) error {
		u := st.user(c.id("id"))
		if u == nil {
			return notFound("user")
		}
		var err error
		if rep, err = fn(st, u); err != nil {
			return err
		}
		if st.user(u.ID) != nil {
			st.edit(u, func() { u.Updated = now })
		}
		var events []cloudEvent
		for _, status := range statuses {
			events = append(events, s.userEvent(u, status))
		}
		st.emit(now, events...)
		return nil
	})
	return rep, err
}

func (s *Sim) deleteUser(c call) (reply, error) {
	return s.changeUser(c, []string{"USER_DELETE_INITIATED", "USER_DELETED"}, func(st *state, u *user) (reply, error) {
		st.deleteUser(u)
		return reply{status: http.StatusNoContent}, nil
	})
}

func (s *Sim) deleteInvitation(c call) (reply, error) {
	err := s.change(func(st *state, now time.Time) error {
		u, inv := st.invitation(c.id("id"))
		switch {
		case inv == nil:
			return notFound("invitation")
		case u.credential(inv.Credential).isForbidden():
			return forbidden()
		case inv.Status == pending:
			s.cancelInvitation(st, now, u, inv)
			return nil
		case inv.Status == acknowledged && st.Switches.CancelAcceptedAnswers2xx:
			return nil
		}
		return &refusal{http.StatusConflict, "invalidStatus", "the invitation is not pending"}
	})
	return reply{status: http.StatusNoContent}, err
}

func (s *Sim) deleteCredential(c call) (reply, error) {
	err := s.change(func(st *state, now time.Time) error {
		u := st.credentials.first(c.id("id"))
		cred := u.credential(c.id("id"))
		switch again := cred != nil && cred.Revoking || cred == nil && st.Revoked[c.id("id")]; {
		case again && st.Switches.SecondRevoke412:
			return &refusal{http.StatusPreconditionFailed, "", "revoking this credential is already under way"}
		case cred == nil:
			return notFound("credential")
		case cred.isForbidden():
			return forbidden()
		}
		s.revokeCredential(st, now, u, cred)
		return nil
	})
	return reply{status: http.StatusNoContent}, err
}

func (s *Sim) partNumbers(call) (rep reply, err error) {
	err = s.read(func(st *state) {
		list := []any{}
		for _, p := range st.PartNumbers {
			list = append(list, partNumberBody(p))
		}
		rep = reply{http.StatusOK, map[string]any{"schemas": []string{urn + "PartNumber"}, urn + "PartNumber": list}}
	})
	return rep, err
}

func (s *Sim) getPartNumber(c call) (rep reply, err error) {
	found := notFound("part number")
	err = s.read(func(st *state) {
		for _, p := range st.PartNumbers {
			if p.ID == c.id("id") {
				rep, found = reply{http.StatusOK, partNumberBody(p)}, nil
			}
		}
	})
	return rep, errors.Join(err, found)
}

func (s *Sim) postPhoto(c call) (reply, error) {
	kind, ok := strings.CutPrefix(c.Header.Get("Content-Type"), mediaType+"+")
	if !ok || kind != "png" && kind != "jpeg" {
		return reply{}, &refusal{http.StatusUnsupportedMediaType, "", "Content-Type must end +png or +jpeg"}
	}
	if _, format, err := image.DecodeConfig(bytes.NewReader(c.body)); err != nil || format != kind {
		return reply{}, invalid("the body is not the image its Content-Type says")
	}
	return s.changeUser(c, []string{"USER_UPDATED"}, func(st *state, u *user) (reply, error) {
		st.LastPhoto++
		st.edit(u, func() { u.Photo = &photo{ID: st.LastPhoto, GUID: st.Switches.GUIDs} })
		return reply{http.StatusCreated, map[string]any{"id": u.Photo.shown(), "status": "PENDING"}}, nil
	})
}

func (s *Sim) approvePhoto(c call) (reply, error) {
	var req struct {
		Status string `json:"status"`
	}
	if err := c.decode(&req); err != nil {
		return reply{}, err
	}
	if req.Status != "APPROVE" && req.Status != "REJECT" {
		return reply{}, invalid("status must be APPROVE or REJECT")
	}
	return s.changeUser(c, []string{"USER_UPDATED"}, func(st *state, u *user) (reply, error) {
		if u.Photo == nil || u.Photo.ID != c.id("pid") {
			return reply{}, notFound("photo")
		}
		st.edit(u, func() { u.Photo.Approved = req.Status == "APPROVE" })
		return reply{http.StatusOK, map[string]any{"id": u.Photo.shown(), "status": req.Status + "D"}}, nil
	})
}

func (s *Sim) deletePhoto(c call) (reply, error) {
	return s.changeUser(c, []string{"USER_UPDATED"}, func(st *state, u *user) (reply, error) {
		if u.Photo == nil || u.Photo.ID != c.id("pid") {
			return reply{}, notFound("photo")
		}
		st.edit(u, func() { u.Photo = nil })
		return reply{status: http.StatusNoContent}, nil
	})
}

func (s *Sim) feed(c call) (rep reply, err error) {
	query := c.URL.Query()
	var bounds [2]string
	for i, name := range []string{"dateFrom", "dateTo"} {
		if text := query.Get(name); text != "" {
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return reply{}, invalid(name + " is not a date-time")
			}
			bounds[i] = at.UTC().Format(eventTime)
		}
	}
	var page [2]int
	for i, name := range []string{"startIndex", "count"} {
		if text := query.Get(name); text != "" {
			if page[i], err = strconv.Atoi(text); err != nil || page[i] < 1 {
				return reply{}, invalid(name + " is not a positive number")
			}
		}
	}
	err = s.read(func(st *state) {
		events := []any{}
		for _, e := range st.Events {
			if e.Time >= bounds[0] && (bounds[1] == "" || e.Time < bounds[1]) {
				events = append(events, e)
			}
		}
		rep = reply{http.StatusOK, listBody(events, page[0], page[1], 500)}
	})
	return rep, err
}
