package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// eventsAndLogs calls f for every event of both buses, every dead letter and every line of a log.
func (r *run) eventsAndLogs(f func(where string, text []byte)) {
	r.t.Helper()
	for _, path := range []string{"/events", "/events?bus=default", "/deadletters"} {
		var list []json.RawMessage
		r.get(path).want(200).into(&list)
		for _, e := range list {
			f(path, e)
		}
	}
	for _, line := range r.logs() {
		f("a log", line)
	}
}

// everyChangeBecomesItsEvent compares the history of every credential there ever was with the events on the bus: each
// entry that changes something has left as one event of the right kind, and no event is without an entry.
func (r *run) everyChangeBecomesItsEvent() {
	events := r.validEvents()
	kinds := map[string]int{}
	for _, h := range all[historyItem](r.items(), func(_, sk string) bool { return strings.HasPrefix(sk, "HIST#") }) {
		want := h.eventKind()
		e, sent := events[h.ID]
		delete(events, h.ID)
		if want == "" {
			if sent {
				r.t.Errorf("%+v left as %s", h, e.DetailType)
			}
			continue
		}
		kinds[want]++
		if e.DetailType != "Credential "+want {
			r.t.Errorf("%s %s→%s left as %q, not as Credential %s", h.Event, h.From, h.To, e.DetailType, want)
			continue
		}
		r.expectSameFacts(h, e)
	}
	for id, e := range events {
		if e.DetailType == "Work Due" { // for ourselves: directory has cleanup come
			kinds[e.DetailType]++
			continue
		}
		r.t.Errorf("%s, %s, is in no history", e.DetailType, id)
	}
	r.t.Logf("events by kind: %v", kinds)
}

// eventKind is the kind of event that the entry has to become, without the word Credential; empty for none.
func (h historyItem) eventKind() string {
	switch {
	case h.Anomaly:
		return "Anomaly"
	case h.Late:
		return ""
	case h.Event == "reserved" && h.To == "invited":
		return "Assigned"
	case h.Event == "mailed":
		return "Invited"
	case h.From != h.To:
		return map[string]string{
			"activating": "Accepted", "activated": "Activated", "declined": "Declined", "expired": "Expired",
			"reassigned": "Reassigned", "revoked": "Revoked", "lost": "Lost", "stolen": "Stolen", "failed": "Failed",
		}[h.To]
	}
	return ""
}

// eventSchemas are the JSON schemas that package notify publishes, by file name without its ending.
func (r *run) eventSchemas() map[string]*jsonschema.Schema {
	r.t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	files, err := filepath.Glob("../notify/schemas/*.json")
	if err != nil || len(files) == 0 {
		r.t.Fatal("no schemas")
	}
	schemas := map[string]*jsonschema.Schema{}
	for _, file := range files {
		schema, err := compiler.Compile(file)
		if err != nil {
			r.t.Fatal(err)
		}
		schemas[strings.TrimSuffix(filepath.Base(file), ".json")] = schema
	}
	return schemas
}

// validEvents are the events that left for the portal, by id. It expects each to fit the schema of its kind, and an
// event that left twice to be the same both times.
func (r *run) validEvents() map[string]event {
	r.t.Helper()
	schemas := r.eventSchemas()
	events := map[string]event{}
	for _, e := range r.busEvents() {
		if e.Source != "mobilecred" {
			continue
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Detail))
		if err != nil {
			r.t.Fatal(err)
		}
		schema := schemas[strings.ToLower(strings.ReplaceAll(e.DetailType, " ", "-"))]
		if schema == nil {
			r.t.Errorf("%s has no schema", e.DetailType)
		} else if err := schema.Validate(doc); err != nil {
			r.t.Errorf("%s: %v", e.DetailType, err)
		}
		id := as[struct{ ID string }](doc.(map[string]any)).ID
		if known, twice := events[id]; twice &&
			(known.DetailType != e.DetailType || !bytes.Equal(known.Detail, e.Detail)) {
			r.t.Errorf("%s was sent in two versions: %s, %s", id, known.Detail, e.Detail)
		}
		events[id] = e
	}
	return events
}

// expectSameFacts expects an event to say what its history entry says.
func (r *run) expectSameFacts(h historyItem, e event) {
	r.t.Helper()
	if h.ID != fmt.Sprintf("%s-%d", h.CredentialID, h.Revision) {
		r.t.Errorf("id %s", h.ID)
	}
	var d struct {
		entry
		HolderID, CredentialID, MobileID string
		Card                             *struct{ Number string }
		Previous                         *struct{ HolderID, CredentialID string }
	}
	if err := json.Unmarshal(e.Detail, &d); err != nil {
		r.t.Fatal(err)
	}
	if d.HolderID != h.HolderID || d.CredentialID != h.CredentialID || d.Revision != h.Revision ||
		d.Event != h.Event || d.From != h.From || d.To != h.To ||
		d.Reason != h.Reason || !d.At.Equal(h.At) || d.Actor.Type != h.Actor.Type {
		r.t.Errorf("the event says %s, the history %+v", e.Detail, h)
	}
	if h.Mobile != nil && (d.MobileID != h.Mobile.ID || d.Card == nil || d.Card.Number == "") {
		r.t.Errorf("the event's card: %s", e.Detail)
	}
	if named := d.Previous != nil; named != (h.PreviousCredentialID != "") || named &&
		(d.Previous.CredentialID != h.PreviousCredentialID || d.Previous.HolderID != h.PreviousHolderID) {
		r.t.Errorf("the event names %+v as previous, the history %s", d.Previous, h.PreviousCredentialID)
	}
}

// expectNothingPersonal expects that neither an event nor a log line holds a name, an address or a code of any mail
// there was.
func (r *run) expectNothingPersonal() {
	var all []mail
	r.get("/mail").want(200).into(&all)
	secrets := []string{"Aimée", "Tremblay", "@example.", "local-client-secret", webhookSecret, r.token()}
	for _, x := range all {
		secrets = append(secrets, x.Code)
	}
	lines := 0
	r.eventsAndLogs(func(where string, text []byte) {
		lines++
		for _, s := range secrets {
			if s != "" && bytes.Contains(text, []byte(s)) {
				r.t.Errorf("%s: %s", where, strings.ReplaceAll(string(text), s, "<"+s[:3]+"…>"))
			}
		}
	})
	r.t.Logf("%d texts searched for in %d events and lines", len(secrets), lines)
}
