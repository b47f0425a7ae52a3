package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/notify"
	"github.com/mobilecred/mobilecred/internal/store"
	"github.com/mobilecred/mobilecred/internal/store/dynamo"
)

// table is the table of the run, read with the service's own code.
func (s *soaking) table() *dynamo.Store {
	return dynamo.New(dynamodb.New(dynamodb.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(s.at(s.engine, "")),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}, nil
		}),
	}), "mobilecred")
}

// rest ends the bad weather and lets everything come to rest: what waits a minute, and what waits longer because it was
// refused again and again.
func (s *soaking) rest(ctx context.Context) error {
	if s.isGone() {
		s.wrong("the run ended by itself: %s", s.tail())
		if err := s.start(); err != nil {
			return err
		}
	}
	if a, err := s.call("DELETE", "/faults", nil, ""); err != nil || a.status != 200 {
		return fmt.Errorf("faults: %d %w", a.status, err)
	}
	if err := s.settle(); err != nil {
		return err
	}
	for _, step := range []string{"61s", "61s", "61s", "61s", "10m", "61s", "1h", "61s", "6h", "61s", "61s"} {
		if err := ctx.Err(); err != nil {
			return err
		}
		a, err := s.call("POST", "/clock", m{"advance": step}, "")
		if err != nil {
			return err
		}
		if a.status != 200 { // it takes longer than an answer may
			if err := s.settle(); err != nil {
				return err
			}
		}
	}
	return s.settle()
}

// settle waits until the run has come to rest, however often that has to be asked.
func (s *soaking) settle() error {
	var a answer
	var err error
	for range 20 {
		if a, err = s.call("POST", "/settle", nil, ""); err == nil && a.status == 200 {
			return nil
		}
	}
	return fmt.Errorf("%w at rest: %d %.300s %w", errNotYet, a.status, a.body, err)
}

// check holds everything against everything else.
func (s *soaking) check(ctx context.Context) {
	all, err := s.list("") // also for the judge: now it has seen the end of every one that has ended
	if err != nil {
		s.wrong("reading the credentials: %v", err)
		return
	}
	live := slices.DeleteFunc(all, func(b badge) bool { return b.Status != "active" })
	rows := s.checkTable(ctx, live)
	s.checkProvider(live)
	s.checkEvents(ctx, rows)
	s.checkMails(ctx, live)
	verdict, err := s.witness.Judge(time.Minute)
	if err != nil {
		s.wrong("the judge: %v", err)
	}
	for _, broken := range verdict.Broken {
		s.wrong("owner: %s", broken)
	}
	s.did["found: lives"], s.did["found: lives, live"] = len(rows), len(live)
	s.did["found: readings judged"], s.did["found: owners judged"] = s.witness.Readings(), verdict.Owners
	s.did["found: owners judged, ended"], s.did["found: mobile IDs judged"] = verdict.Ends, verdict.MobileIDs
	var letters []json.RawMessage
	if a, err := s.call("GET", "/deadletters", nil, ""); err == nil && a.into(&letters) == nil {
		s.did["found: dead letters"] = len(letters)
	}
}

// checkTable: the API says what the table says; a mobile ID has one live credential, which its owner item names; and
// nothing is left to do. It returns all credentials there ever were.
func (s *soaking) checkTable(ctx context.Context, live []badge) (rows []credential.Credential) {
	t := s.table()
	page := credential.Page{ProfileID: profile, Limit: 1000}
	for {
		more, next, err := t.ListCredentials(ctx, page)
		if err != nil {
			s.wrong("table: %v", err)
			return nil
		}
		rows = append(rows, more...)
		if page.Cursor = next; next == "" {
			break
		}
	}
	shown := map[string]badge{}
	for _, b := range live {
		shown[b.ID] = b
	}
	now := s.now()
	owners, slots := map[string]string{}, map[string]string{}
	for _, c := range rows {
		s.checkRow(ctx, t, c, now)
		b, isShown := shown[c.ID]
		mobileID := ""
		if c.Mobile != nil {
			mobileID = c.Mobile.ID
		}
		if isShown != c.IsLive() || isShown && (b.MobileID != mobileID || b.Stage != string(c.Stage)) {
			s.wrong("%s is %s with %q in the table, and the API shows %+v", c.ID, c.State(), mobileID, b)
		}
		if !c.IsLive() || mobileID == "" {
			continue
		}
		if other := owners[mobileID]; other != "" {
			s.wrong("%s belongs to %s and %s", mobileID, other, c.ID)
		}
		owners[mobileID] = c.ID
		if c.Device == nil {
			continue
		}
		if other := slots[c.Device.ID]; other != "" {
			s.wrong("%s has %s and %s", c.Device.ID, other, c.ID)
		}
		slots[c.Device.ID] = c.ID
	}
	return rows
}

// now is the time of the run.
func (s *soaking) now() time.Time {
	var clock struct{ Now time.Time }
	if a, err := s.call("GET", "/clock", nil, ""); err != nil || a.into(&clock) != nil {
		s.wrong("clock: %v", err)
	}
	return clock.Now
}

// checkRow checks one row with its owner item, its history and its work.
func (s *soaking) checkRow(ctx context.Context, t *dynamo.Store, c credential.Credential, now time.Time) {
	if c.Mobile != nil {
		owner, err := t.Owner(ctx, c.Account, c.Mobile.ID)
		isOurs := owner.CredentialID == c.ID
		switch {
		case err != nil:
			s.wrong("owner of %s: %v", c.Mobile.ID, err)
		case c.IsLive() && (!isOurs || c.Stage != credential.StageActivated && owner.State != credential.OwnerHeld),
			c.ActivatedAt != nil && (!isOurs || owner.State != credential.OwnerSpent),
			!c.IsLive() && isOurs && owner.State == credential.OwnerHeld:
			s.wrong("%s is %s, and the owner of %s is %s of %s", c.ID, c.State(), c.Mobile.ID, owner.State,
				owner.CredentialID)
		}
	}
	entries, err := t.History(ctx, c.HolderID, c.ID)
	if err != nil {
		s.wrong("history: %v", err)
	}
	state := ""
	for _, e := range entries {
		if e.From != state {
			s.wrong("%s: %s from %q, after %q", c.ID, e.Event, e.From, state)
		}
		state = e.To
	}
	if state != c.State() {
		s.wrong("%s is %s, and its history %s", c.ID, c.State(), state)
	}
	h, err := t.Holder(ctx, c.HolderID)
	if errors.Is(err, store.ErrNotFound) {
		if c.IsLive() {
			s.wrong("%s is live, and its holder erased", c.ID)
		}
		return
	}
	if step := credential.Next(c, h, now); err != nil || step.Kind != credential.StepNone && !step.At.After(now) {
		s.wrong("%s (%s): still to %s since %s, %+v, %v", c.ID, c.State(), step.Kind, step.At, c.Retry, err)
	}
	if c.IsLive() && c.Mobile == nil {
		s.wrong("%s (%s) has no mobile ID: %+v", c.ID, c.State(), c.Retry)
	}
}

// checkProvider: what the provider's users of our holders have, live credentials have, and the other way round.
func (s *soaking) checkProvider(live []badge) {
	var p struct {
		Users []struct {
			ExternalID  string
			Invitations []struct {
				Status   string
				MobileID *string
			}
		}
		PartNumbers []struct{ Available, Reserved, Issued []string }
	}
	a, err := s.call("GET", "/provider", nil, "")
	if err == nil {
		err = a.into(&p)
	}
	if err != nil {
		s.wrong("provider: %v", err)
		return
	}
	ours, theirs, known := map[string][]string{}, map[string][]string{}, map[string]bool{}
	for _, b := range live {
		ours[b.HolderID] = append(ours[b.HolderID], b.MobileID)
		known[b.MobileID] = true
	}
	for _, u := range p.Users {
		for _, i := range u.Invitations {
			if i.MobileID == nil {
				continue
			}
			if strings.HasPrefix(u.ExternalID, "stranger") {
				known[*i.MobileID] = true
				continue
			}
			theirs[u.ExternalID] = append(theirs[u.ExternalID], *i.MobileID)
		}
	}
	for _, by := range []map[string][]string{ours, theirs} {
		for _, ids := range by {
			slices.Sort(ids)
		}
	}
	for _, holder := range slices.Sorted(maps.Keys(union(ours, theirs))) {
		if !slices.Equal(ours[holder], theirs[holder]) {
			s.wrong("%s has %v, and at the provider %v", holder, ours[holder], theirs[holder])
		}
	}
	for _, part := range p.PartNumbers {
		for _, id := range slices.Concat(part.Reserved, part.Issued) {
			if !known[id] {
				s.wrong("the provider has given out %s, which no user has", id)
			}
		}
		s.did["found: mobile IDs left"] += len(part.Available)
	}
}

func union[V any](a, b map[string]V) map[string]V {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// checkEvents: every change that is to be told was told, and nothing else.
func (s *soaking) checkEvents(ctx context.Context, rows []credential.Credential) {
	var events []struct {
		Source     string
		DetailType string `json:"detail-type"`
		Detail     struct{ ID, CredentialID string }
	}
	a, err := s.call("GET", "/events", nil, "")
	if err == nil {
		err = a.into(&events)
	}
	if err != nil {
		s.wrong("events: %v", err)
		return
	}
	told := map[string]int{}
	for _, e := range events {
		if e.Source == envelope.SourceMobilecred && e.DetailType != envelope.WorkDue {
			told[e.DetailType+" "+e.Detail.ID]++
		}
	}
	t := s.table()
	for _, c := range rows {
		entries, err := t.History(ctx, c.HolderID, c.ID)
		if err != nil {
			s.wrong("history: %v", err)
		}
		for _, e := range entries {
			s.did["found: history entries"]++
			kind := notify.DetailType(e)
			if kind == "" {
				continue
			}
			key := kind + " " + e.ID
			if told[key] == 0 {
				s.wrong("%s of %s at %s was not told", kind, c.ID, e.At)
			}
			s.did["found: events told"]++
			s.did["found: events told again"] += max(0, told[key]-1)
			delete(told, key)
		}
	}
	for key := range told {
		s.wrong("told, and in no history: %s", key)
	}
}

// checkMails: every live credential was mailed about, and the code in the newest mail of each that is not redeemed yet
// brings its own mobile ID to a phone.
func (s *soaking) checkMails(ctx context.Context, live []badge) {
	var mails []mail
	a, err := s.call("GET", "/mail", nil, "")
	if err == nil {
		err = a.into(&mails)
	}
	if err != nil {
		s.wrong("mails: %v", err)
		return
	}
	s.did["found: mails"] = len(mails)
	var redeemed []badge
	for n, b := range live {
		if b.Stage != "invited" {
			continue
		}
		if b.Invitation.Status != "sent" {
			s.wrong(
				"%s of %s is invited, and its invitation %s, %+v",
				b.ID,
				b.HolderID,
				b.Invitation.Status,
				b.Provider,
			)
			continue
		}
		i := slices.IndexFunc(mails, func(x mail) bool {
			hint := strings.TrimPrefix(b.Invitation.CodeHint, "…")
			return hint != "" && strings.HasSuffix(x.Code, hint) &&
				strings.HasPrefix(x.To, strings.ToLower(b.HolderID)+".")
		})
		if i < 0 {
			s.wrong("%s of %s: no mail with a code that ends in %s", b.ID, b.HolderID, b.Invitation.CodeHint)
			continue
		}
		phone := fmt.Sprint("own-phone-", n)
		var shown struct{ Badges []struct{ MobileID string } }
		a, err := s.call("POST", "/phones/"+phone+"/redeem", m{"code": mails[i].Code}, "")
		if err == nil {
			err = a.into(&shown)
		}
		if err != nil || len(shown.Badges) != 1 || shown.Badges[0].MobileID != b.MobileID {
			s.wrong("the code mailed for %s brings %v, not %s: %v", b.ID, shown.Badges, b.MobileID, err)
			continue
		}
		redeemed = append(redeemed, b)
	}
	if err := s.settle(); err != nil {
		s.wrong("after the codes were redeemed: %v", err)
	}
	for _, b := range redeemed {
		for _, now := range s.badges(b.HolderID) {
			if now.ID == b.ID && (now.Stage != "activated" || now.MobileID != b.MobileID) {
				s.wrong("%s was redeemed, and is %s %s with %s", b.ID, now.Status, now.Stage, now.MobileID)
			}
		}
	}
	s.did["found: codes redeemed in the end"] = len(redeemed)
}
