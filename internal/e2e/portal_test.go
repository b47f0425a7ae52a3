package e2e

import (
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

func (a answer) credential() credential {
	a.t.Helper()
	var c credential
	a.into(&c)
	return c
}

// credential is a credential as the API answers it; fields that are null there are empty here.
type credential struct {
	ID, HolderID, ProfileID, Name string
	Status, StatusReason, Stage   string
	MobileID                      string
	Card                          struct{ Number, Format, FacilityCode string }
	Invitation                    struct {
		Status, CodeHint, SentTo string
		SentAt, ExpiresAt        time.Time
		Mails                    int
	}
	Device      struct{ ID, Model, Platform string }
	ActivatedAt time.Time
	Provider    struct{ Account, State, LastError string }
	Revision    int
}

// path is the credential's in the API.
func (c credential) path() string { return "/v1/holders/" + c.HolderID + "/credentials/" + c.ID }

// entry is one of a credential's history.
type entry struct {
	ID, Event, From, To, Reason string
	At                          time.Time
	Actor                       struct{ Type, ID, Claimed string }
	Anomaly, Late               bool
	Revision                    int
}

var holders atomic.Int64

// holder stores a new cardholder, with changes to the fields, and returns the id, which no other test uses. The e-mail
// address is the id at example.com.
func (r *run) holder(changes ...m) string {
	r.t.Helper()
	id := fmt.Sprintf("E-%d", holders.Add(1))
	body := m{"kind": "cardholder", "firstName": "Aimée", "lastName": "Tremblay", "email": address(id)}
	for _, c := range changes {
		maps.Copy(body, c)
	}
	r.put("/v1/holders/"+id, body).want(201)
	return id
}

func address(holder string) string { return strings.ToLower(holder) + "@example.com" }

// assign assigns a credential of profile hq and expects its invitation to be out at once.
func (r *run) assign(holder string) credential {
	r.t.Helper()
	return r.post("/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}).want(201).credential()
}

// activated returns a credential of profile hq for a new holder, activated on that device.
func (r *run) activated(device string) credential {
	r.t.Helper()
	c := r.assign(r.holder())
	r.redeem(device, r.codeOf(c.HolderID)).want(200)
	return r.becomes(c, "activated")
}

// read is the credential as it is now.
func (r *run) read(c credential) credential {
	r.t.Helper()
	return r.get(c.path()).want(200).credential()
}

// state is the stage of a live credential and the status of a final one.
func (c credential) state() string {
	if c.Stage != "" {
		return c.Stage
	}
	return c.Status
}

// becomes waits until the credential is in that state.
func (r *run) becomes(c credential, state string) credential {
	r.t.Helper()
	r.eventually(func() string {
		if c = r.read(c); c.state() != state {
			return fmt.Sprintf("credential %s is %s, not %s", c.ID, c.state(), state)
		}
		return ""
	})
	return c
}

func (r *run) history(c credential) []entry {
	r.t.Helper()
	var list struct{ Items []entry }
	r.get(c.path() + "/history").want(200).into(&list)
	return list.Items
}

// eventNames are the names of the events in the history, in order, parted by spaces.
func (r *run) eventNames(c credential) string {
	r.t.Helper()
	var names []string
	for _, e := range r.history(c) {
		names = append(names, e.Event)
	}
	return strings.Join(names, " ")
}

// live are the live credentials of every profile.
func (r *run) live() []credential {
	r.t.Helper()
	var profiles struct{ Items []struct{ ID string } }
	r.get("/v1/profiles").want(200).into(&profiles)
	var all []credential
	for _, p := range profiles.Items {
		query := url.Values{"profileId": {p.ID}, "status": {"active"}}
		for {
			var page struct {
				Items      []credential
				NextCursor string
			}
			r.get("/v1/credentials?" + query.Encode()).want(200).into(&page)
			all = append(all, page.Items...)
			if page.NextCursor == "" {
				break
			}
			query.Set("cursor", page.NextCursor)
		}
	}
	return all
}

// invited returns a credential of profile hq for a new holder, with its invitation sent.
func (r *run) invited() credential {
	r.t.Helper()
	return r.assign(r.holder())
}

// becomesWithinASecond expects the credential to reach a state in less than a second of what was done just before, and
// says how long it took.
func (r *run) becomesWithinASecond(c credential, state, reason string) credential {
	r.t.Helper()
	began := time.Now()
	c = r.becomes(c, state)
	if took := time.Since(began); took > time.Second {
		r.t.Errorf("%s after %v", state, took)
	} else {
		r.t.Logf("%s after %v", state, took.Round(time.Millisecond))
	}
	return r.expectState(c, state, reason)
}

// expectState expects a credential to be in a state, for a reason, now.
func (r *run) expectState(c credential, state, reason string) credential {
	r.t.Helper()
	if c = r.read(c); c.state() != state || c.StatusReason != reason {
		r.t.Fatalf("credential %s is %s (%s), not %s (%s): %s", c.ID, c.state(), c.StatusReason, state,
			reason, r.eventNames(c))
	}
	return c
}

// endAllCredentials ends every live credential, so that the next mobile ID the provider gives out is one that the next
// part has freed.
func (r *run) endAllCredentials() {
	r.t.Helper()
	for _, c := range r.live() {
		r.delete(c.path()).want(200, 202)
	}
	r.settle()
}

func (r *run) credentials(holder string) []credential {
	r.t.Helper()
	var list struct{ Items []credential }
	r.get("/v1/holders/" + holder + "/credentials").want(200).into(&list)
	return list.Items
}
