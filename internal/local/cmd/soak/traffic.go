package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/ownership"
)

// m is a JSON object.
type m map[string]any

// mail is what a holder sees of a mail; badge is a credential as the API answers it.
type (
	mail  struct{ ID, To, Code string }
	badge struct {
		ID, HolderID, Status, Stage string
		MobileID                    string
		ActivatedAt                 *time.Time
		Invitation                  struct {
			Status, CodeHint string
			Mails            int
		}
		Device   *struct{ ID string }
		Provider struct{ State, LastError string }
	}
)

const (
	holders  = 14
	visitors = 4
	phones   = 6
)

// portrait is a picture that the API takes.
func portrait(shade uint8) []byte {
	picture := image.NewGray(image.Rect(0, 0, 8, 8))
	for i := range picture.Pix {
		picture.Pix[i] = shade
	}
	var b bytes.Buffer
	_ = jpeg.Encode(&b, picture, nil) // a buffer takes everything
	return b.Bytes()
}

// ask makes a call and counts it. Nothing is expected of the answer: the run may just have been killed.
func (s *soaking) ask(method, path string, body any, key string) (answer, time.Duration, bool) {
	asked := time.Since(s.started)
	a, err := s.call(method, path, body, key)
	s.count("calls: made")
	if err != nil {
		s.count("answers: none")
		return a, asked, false
	}
	s.count(fmt.Sprintf("answers: %d", a.status))
	return a, asked, a.status/100 == 2
}

// persist makes a call as the portal does: what got no answer, or one that asks for it, is asked again with the same
// key.
func (s *soaking) persist(ctx context.Context, method, path string, body any) (answer, time.Duration, bool) {
	s.mu.Lock()
	s.keys++
	key := fmt.Sprint("key-", s.keys)
	s.mu.Unlock()
	first := time.Since(s.started)
	for try := 0; ; try++ {
		a, _, ok := s.ask(method, path, body, key)
		if ok || a.status/100 == 4 || try == 5 {
			return a, first, ok
		}
		if !wait(ctx, time.Second) {
			return a, first, false
		}
	}
}

// wait waits; false when the traffic is over.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// saw lets the witness see a credential.
func (s *soaking) saw(b badge, asked time.Duration) {
	if b.ID != "" {
		s.witness.Saw(ownership.Reading{Credential: b.ID, MobileID: b.MobileID, Live: b.Status == "active",
			Activated: b.ActivatedAt != nil, Asked: asked, Answered: time.Since(s.started)})
	}
}

func (s *soaking) sawAnswer(a answer, asked time.Duration) (b badge) {
	if a.into(&b) == nil {
		s.saw(b, asked)
	}
	return b
}

// badges reads a holder's credentials.
func (s *soaking) badges(holder string) []badge {
	a, asked, _ := s.ask("GET", "/v1/holders/"+holder+"/credentials", nil, "")
	var list struct{ Items []badge }
	if a.into(&list) != nil {
		return nil
	}
	for _, b := range list.Items {
		s.saw(b, asked)
	}
	return list.Items
}

// portal does one thing after the other, for as long as there is traffic.
func (s *soaking) portal(ctx context.Context, random *rand.Rand) {
	for wait(ctx, time.Duration(random.IntN(250))*time.Millisecond) {
		s.calm.RLock()
		s.act(ctx, random)
		s.calm.RUnlock()
	}
}

func (s *soaking) act(ctx context.Context, random *rand.Rand) {
	id := fmt.Sprint("E-", random.IntN(holders))
	if random.IntN(6) == 0 {
		id = fmt.Sprint("V-", random.IntN(visitors))
	}
	switch n := random.IntN(100); {
	case n < 12:
		s.describe(id, random)
	case n < 40:
		a, asked, ok := s.persist(ctx, "POST", "/v1/holders/"+id+"/credentials", m{"profileId": profile})
		if ok {
			s.count("portal: assigned")
			s.sawAnswer(a, asked)
		} else if a.status == 404 {
			s.describe(id, random)
		}
	case n < 56:
		s.phone(random)
	case n < 72:
		s.endOne(ctx, id, random)
	case n < 77:
		picture := portrait(uint8(random.IntN(4)) * 60)
		if a, _, _ := s.ask("PUT", "/v1/holders/"+id+"/picture", picture, ""); a.status == 204 {
			s.count("portal: picture put")
		}
	case n < 79:
		if a, _, _ := s.ask("DELETE", "/v1/holders/"+id+"/picture", nil, ""); a.status == 204 {
			s.count("portal: picture removed")
		}
	case n < 80:
		if _, _, ok := s.ask("DELETE", "/v1/holders/"+id, nil, ""); ok {
			s.count("portal: holder erased")
		}
	case n < 88:
		s.administer(id, random)
	default:
		s.badges(id)
	}
}

// describe stores a holder, with one of a few names and addresses.
func (s *soaking) describe(id string, random *rand.Rand) {
	variant := random.IntN(3)
	body := m{"kind": "cardholder", "firstName": "Ada", "lastName": fmt.Sprint("Nr ", variant),
		"email": fmt.Sprintf("%s.%d@example.com", strings.ToLower(id), variant/2)}
	if id[0] == 'V' {
		var clock struct{ Now time.Time }
		a, _, _ := s.ask("GET", "/clock", nil, "")
		if a.into(&clock) != nil || clock.Now.IsZero() {
			return
		}
		body["kind"] = "visitor"
		body["validUntil"] = clock.Now.Add(time.Duration(1+random.IntN(48)) * time.Hour).UTC().Format(time.RFC3339)
	}
	if _, _, ok := s.ask("PUT", "/v1/holders/"+id, body, ""); ok {
		s.count("portal: holder described")
	}
}

// endOne ends or replaces one of a holder's credentials, or has its invitation mailed again.
func (s *soaking) endOne(ctx context.Context, id string, random *rand.Rand) {
	all := s.badges(id)
	live := slices.DeleteFunc(slices.Clone(all), func(b badge) bool { return b.Status != "active" })
	if len(live) > 0 && random.IntN(8) > 0 {
		all = live
	}
	if len(all) == 0 {
		return
	}
	b := all[random.IntN(len(all))]
	path := "/v1/holders/" + id + "/credentials/" + b.ID
	for _, way := range []struct {
		share              int
		what, method, more string
		body               any
	}{
		{30, "revoked", "DELETE", "", nil},
		{10, "lost", "POST", "/lost", m{}},
		{10, "stolen", "POST", "/stolen", m{}},
		{12, "replaced, lost", "POST", "/replacement", m{"reason": "lost"}},
		{12, "replaced, upgrade", "POST", "/replacement", m{"reason": "upgrade"}},
		{26, "mailed again", "POST", "/invitation", m{}},
	} {
		if random.IntN(100) >= way.share {
			continue
		}
		if a, asked, ok := s.persist(ctx, way.method, path+way.more, way.body); ok {
			s.count("portal: " + way.what)
			s.sawAnswer(a, asked)
		}
		return
	}
}

// phone does something on a phone, with one of the codes mailed last.
func (s *soaking) phone(random *rand.Rand) {
	path := fmt.Sprint("/phones/phone-", random.IntN(phones))
	if random.IntN(12) == 0 {
		if _, _, ok := s.ask("POST", path+"/remove", m{}, ""); ok {
			s.count("phones: removed")
		}
		return
	}
	s.mu.Lock()
	codes := s.codes[:min(len(s.codes), 25)]
	s.mu.Unlock()
	if len(codes) == 0 {
		return
	}
	code := codes[random.IntN(len(codes))].Code
	do := []string{"redeem", "redeem", "redeem", "accept", "decline"}[random.IntN(5)]
	if _, _, ok := s.ask("POST", path+"/"+do, m{"code": code}, ""); !ok {
		return
	}
	s.count("phones: " + do)
	if do == "accept" && random.IntN(3) > 0 {
		if _, _, ok := s.ask("POST", path+"/sync", m{}, ""); ok {
			s.count("phones: sync")
		}
	}
}

// administer is an administrator in the provider's own portal.
func (s *soaking) administer(id string, random *rand.Rand) {
	live := slices.DeleteFunc(s.badges(id), func(b badge) bool { return b.Status != "active" || b.MobileID == "" })
	if len(live) == 0 {
		return
	}
	b := live[random.IntN(len(live))]
	do, body := "revoke", m{"mobileId": b.MobileID}
	if random.IntN(3) > 0 {
		do, body["externalId"] = "reassign", fmt.Sprint("stranger-", random.IntN(5))
	}
	if _, _, ok := s.ask("POST", "/provider/"+do, body, ""); ok {
		s.count("provider: " + do)
	}
}

// watch reads live credentials again and again, for the witness.
func (s *soaking) watch(ctx context.Context, random *rand.Rand) {
	for wait(ctx, 300*time.Millisecond) {
		s.calm.RLock()
		if random.IntN(4) > 0 {
			s.badges(fmt.Sprint("E-", random.IntN(holders)))
		} else {
			_, _ = s.list("active")
		}
		s.calm.RUnlock()
	}
}

// list lists all credentials with a status, or with any.
func (s *soaking) list(status string) (all []badge, err error) {
	query := url.Values{"profileId": {profile}, "limit": {"100"}}
	if status != "" {
		query.Set("status", status)
	}
	for {
		a, asked, _ := s.ask("GET", "/v1/credentials?"+query.Encode(), nil, "")
		var page struct {
			Items      []badge
			NextCursor string
		}
		if err := a.into(&page); err != nil {
			return nil, err
		}
		for _, b := range page.Items {
			s.saw(b, asked)
		}
		all = append(all, page.Items...)
		if page.NextCursor == "" {
			return all, nil
		}
		query.Set("cursor", page.NextCursor)
	}
}

// readMails is the holders looking for mail.
func (s *soaking) readMails(ctx context.Context) {
	for wait(ctx, 3*time.Second) {
		s.calm.RLock()
		a, _, _ := s.ask("GET", "/overview", nil, "")
		s.calm.RUnlock()
		var overview struct{ Mails []mail }
		if a.into(&overview) == nil {
			s.mu.Lock()
			s.codes = overview.Mails
			s.mu.Unlock()
		}
	}
}

// disturb kills processes, makes calls fail and the clock jump, each once first, and then at random, for as long as
// there is traffic. When it returns, everything runs again.
func (s *soaking) disturb(ctx context.Context, random *rand.Rand) {
	kinds := []func(*rand.Rand) error{s.killAFunction, s.killTheEngine, s.killTheRun, s.jump, s.fail}
	shares := []int{45, 8, 8, 14, 25}
	for turn := 0; wait(ctx, time.Duration(1000+random.IntN(2500))*time.Millisecond); turn++ {
		if s.isGone() {
			s.wrong("the run ended by itself: %s", s.tail())
			if err := s.start(); err != nil {
				s.wrong("%v", err)
				return
			}
		}
		kind := turn
		if turn >= len(kinds) {
			n := random.IntN(100)
			for kind = 0; n >= shares[kind]; kind++ {
				n -= shares[kind]
			}
		}
		if err := kinds[kind](random); err != nil {
			s.wrong("%v", err)
			return
		}
	}
}

func (s *soaking) killAFunction(random *rand.Rand) error {
	if name := s.killFunction(random); name != "" {
		s.count("killed: function")
		s.count("killed: " + name)
	}
	return nil
}

func (s *soaking) killTheEngine(random *rand.Rand) error {
	s.killEngine()
	s.count("killed: database")
	time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	return s.startEngine()
}

func (s *soaking) killTheRun(random *rand.Rand) error {
	s.kill()
	s.count("killed: run")
	time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	return s.start()
}

// jump makes the clock jump while nothing else is under way.
func (s *soaking) jump(random *rand.Rand) error {
	s.calm.Lock()
	defer s.calm.Unlock()
	d := []time.Duration{time.Minute, time.Minute, 10 * time.Minute, time.Hour, 30 * time.Hour,
		170 * time.Hour}[random.IntN(6)]
	if _, _, ok := s.ask("POST", "/clock", m{"advance": d.String()}, ""); ok {
		s.count("disturbed: clock jumped")
	} else {
		s.count("disturbed: clock did not come to rest")
	}
	return nil
}

// fail makes some of the next calls of a service fail.
func (s *soaking) fail(random *rand.Rand) error {
	service := []string{"ses", "origo", "origo", "origo", "dynamodb", "dynamodb", "events"}[random.IntN(7)]
	fault := m{"service": service, "kind": []string{"error", "timeout", "throttle"}[random.IntN(3)],
		"when": []string{"before", "after"}[random.IntN(2)], "count": 1 + random.IntN(6), "holdMs": random.IntN(300)}
	if service == "origo" && random.IntN(4) == 0 {
		fault["kind"] = "drop"
		delete(fault, "when")
	}
	if _, _, ok := s.ask("POST", "/faults", fault, ""); ok {
		s.count("disturbed: faults of " + service)
	}
	return nil
}
