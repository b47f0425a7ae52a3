package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mobilecred/mobilecred/internal/bus"
	"github.com/mobilecred/mobilecred/internal/credential"
)

var at = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func entry(event credential.EventKind, from, to string) credential.HistoryEntry {
	return credential.HistoryEntry{
		ID: "c1-4", HolderID: "E-1", CredentialID: "c1", ProfileID: "hq", Account: "acme", At: at, Event: event,
		From: from, To: to,
		Revision: 4, Mobile: &credential.MobileID{ID: "P:56", Number: "56", Format: "H10301", FacilityCode: "42"},
		Actor: credential.Actor{Type: credential.ActorPortal, ID: "portal", Claimed: "Jane Operator"},
	}
}

func flagged(e credential.HistoryEntry, anomaly, late bool) credential.HistoryEntry {
	e.Anomaly, e.Late = anomaly, late
	return e
}

func tookOver(e credential.HistoryEntry) credential.HistoryEntry {
	e.PreviousHolderID, e.PreviousCredentialID = "E-0", "c0"
	return e
}

var told = []struct {
	entry credential.HistoryEntry
	want  string
}{
	{entry(credential.EventAssigned, "", "invited"), ""},
	{tookOver(entry(credential.EventReserved, "invited", "invited")), CredentialAssigned},
	{entry(credential.EventReserved, "revoked", "revoked"), ""},
	{entry(credential.EventMailed, "invited", "invited"), CredentialInvited},
	{flagged(entry(credential.EventMailed, "revoked", "revoked"), false, true), ""},
	{entry(credential.EventResent, "invited", "invited"), ""},
	{entry(credential.EventAccepted, "invited", "activating"), CredentialAccepted},
	{entry(credential.EventActivated, "activating", "activated"), CredentialActivated},
	{entry(credential.EventDeclined, "invited", "declined"), CredentialDeclined},
	{entry(credential.EventExpired, "invited", "expired"), CredentialExpired},
	{entry(credential.EventVisitEnded, "activated", "expired"), CredentialExpired},
	{entry(credential.EventGivenToAnother, "invited", "reassigned"), CredentialReassigned},
	{entry(credential.EventMissingAtProvider, "invited", "reassigned"), CredentialReassigned},
	{entry(credential.EventRevoke, "activated", "revoked"), CredentialRevoked},
	{entry(credential.EventRevokedAtProvider, "activated", "revoked"), CredentialRevoked},
	{entry(credential.EventDeviceHasProfile, "invited", "revoked"), CredentialRevoked},
	{entry(credential.EventLost, "activated", "lost"), CredentialLost},
	{entry(credential.EventLost, "revoked", "revoked"), ""},
	{entry(credential.EventStolen, "activated", "stolen"), CredentialStolen},
	{entry(credential.EventRefused, "invited", "failed"), CredentialFailed},
	{flagged(entry(credential.EventGivenToAnother, "activated", "activated"), true, false), CredentialAnomaly},
	{flagged(entry(credential.EventExpired, "revoked", "revoked"), false, true), ""},
}

// schemas compiles the schemas of the events and says how many there are.
func schemas(t *testing.T) (*jsonschema.Compiler, int) {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	files, err := filepath.Glob("schemas/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if m, ok := doc.(map[string]any); !ok || m["description"] == "" {
			t.Errorf("%s does not say what its emission guarantees", file)
		}
		if err := compiler.AddResource(filepath.Base(file), doc); err != nil {
			t.Fatal(err)
		}
	}
	return compiler, len(files)
}

// validate checks the body of an event against the schema of its detail type, and returns it as text.
func validate(t *testing.T, compiler *jsonschema.Compiler, detailType string, detail any) string {
	t.Helper()
	name := strings.ToLower(strings.ReplaceAll(detailType, " ", "-")) + ".json"
	schema, err := compiler.Compile(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	text, err := json.Marshal(detail)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("%s: %v", detailType, err)
	}
	return string(text)
}

func TestEveryHistoryEntryBecomesTheRightEventOfItsSchema(t *testing.T) {
	compiler, files := schemas(t)
	seen := map[string]bool{}
	for _, tc := range told {
		got := DetailType(tc.entry)
		if got != tc.want {
			t.Errorf("%s %s→%s: %q, want %q", tc.entry.Event, tc.entry.From, tc.entry.To, got, tc.want)
		}
		if got == "" {
			continue
		}
		seen[got] = true
		if text := validate(t, compiler, got, DetailOf(tc.entry)); strings.Contains(text, "Jane") {
			t.Errorf("%s repeats what a portal claims: %s", got, text)
		}
	}
	const others = 2 // detail.json, and work-due.json, which is no history entry's
	if len(seen) != files-others {
		t.Errorf("%d kinds of events told, %d schemas", len(seen), files-others)
	}
}

func TestAWakeOfAWorkItemBecomesWorkDue(t *testing.T) {
	s, n := events.NewStringAttribute, events.NewNumberAttribute
	item := func(added, wake string) map[string]events.DynamoDBAttributeValue {
		image := map[string]events.DynamoDBAttributeValue{
			"holderId": s("E-1"), "account": s("acme"), "added": n(added), "dueAt": s("2026-11-25T12:00:00.000Z"),
		}
		if wake != "" {
			image["wake"] = s(wake)
		}
		return image
	}
	const noon, later = "2026-11-25T12:00:00.000Z", "2026-11-25T12:01:00.000Z"
	compiler, _ := schemas(t)
	for _, tt := range []struct {
		name, event, sk string
		was, is         map[string]events.DynamoDBAttributeValue
		want            bool
	}{
		{"created with a wake", "INSERT", "WORK#acme", nil, item("1", noon), true},
		{"woken", "MODIFY", "WORK#acme", item("1", ""), item("2", noon), true},
		{"woken again", "MODIFY", "WORK#acme", item("2", noon), item("3", later), true},
		{"woken again in the same moment", "MODIFY", "WORK#acme", item("2", noon), item("3", noon), true},
		{"changed otherwise", "MODIFY", "WORK#acme", item("2", noon), item("2", noon), false},
		{"claimed", "MODIFY", "WORK#acme", item("2", noon), item("2", ""), false},
		{"removed", "REMOVE", "WORK#acme", item("2", noon), nil, false},
		{"another item", "MODIFY", "CRED#c1", item("1", ""), item("2", noon), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			record := events.DynamoDBEventRecord{EventName: tt.event, Change: events.DynamoDBStreamRecord{
				SequenceNumber: "1", OldImage: tt.was, NewImage: tt.is,
				Keys: map[string]events.DynamoDBAttributeValue{"pk": s("HOLDER#E-1"), "sk": s(tt.sk)},
			}}
			sent := &recorder{}
			res, err := Handler(sent)(t.Context(), events.DynamoDBEvent{Records: []events.DynamoDBEventRecord{record}})
			if err != nil || len(res.BatchItemFailures) != 0 {
				t.Fatalf("%+v, %v", res, err)
			}
			if (len(sent.entries) == 1) != tt.want {
				t.Fatalf("sent %+v", sent.entries)
			}
			if tt.want {
				text := validate(t, compiler, sent.entries[0].DetailType, sent.entries[0].Detail)
				if !strings.Contains(text, `"holderId":"E-1","account":"acme"`) {
					t.Error(text)
				}
			}
		})
	}
}

// recorder is a bus that refuses the entries at some places.
type recorder struct {
	refuse  []int
	down    bool
	entries []bus.Entry
}

func (r *recorder) Publish(_ context.Context, entries []bus.Entry) error {
	if r.down {
		return errors.New("no answer")
	}
	for i, e := range entries {
		if !slices.Contains(r.refuse, i) {
			r.entries = append(r.entries, e)
		}
	}
	if r.refuse != nil {
		return &bus.Error{Entries: len(entries), Failed: r.refuse}
	}
	return nil
}

func record(sequence string, e credential.HistoryEntry) events.DynamoDBEventRecord {
	s := events.NewStringAttribute
	return events.DynamoDBEventRecord{EventName: "INSERT", Change: events.DynamoDBStreamRecord{
		SequenceNumber: sequence,
		Keys: map[string]events.DynamoDBAttributeValue{"pk": s("HOLDER#E-1"),
			"sk": s(fmt.Sprintf("HIST#c1#%010d", e.Revision))},
		NewImage: map[string]events.DynamoDBAttributeValue{
			"pk": s("HOLDER#E-1"), "sk": s("HIST#c1#0000000004"), "id": s(e.ID), "holderId": s(e.HolderID),
			"credentialId": s(e.CredentialID),
			"profileId":    s(e.ProfileID), "account": s(e.Account), "at": s("2026-11-23T09:00:00.000Z"),
			"event": s(string(e.Event)),
			"from":  s(e.From), "to": s(e.To), "revision": events.NewNumberAttribute("4"),
			"actor": events.NewMapAttribute(map[string]events.DynamoDBAttributeValue{"type": s("portal"),
				"id": s("portal")}),
			"mobile": events.NewMapAttribute(map[string]events.DynamoDBAttributeValue{"id": s("P:56"),
				"number": s("56")}),
		},
	}}
}

func TestABatchGoesOnFromTheFirstRecordThatWasNotTold(t *testing.T) {
	activated := entry(credential.EventActivated, "invited", "activated")
	other := record("20", activated)
	other.Change.Keys["sk"] = events.NewStringAttribute("CRED#c1")
	changed := record("21", activated)
	changed.EventName = "MODIFY"
	broken := record("40", activated)
	broken.Change.NewImage["revision"] = events.NewStringAttribute("four")
	silent := record("15", entry(credential.EventResent, "invited", "invited"))
	batch := []events.DynamoDBEventRecord{record("10", activated), silent, other, changed, record("30", activated),
		broken, record("50", activated)}

	for _, tc := range []struct {
		name    string
		bus     recorder
		records []events.DynamoDBEventRecord
		want    string
		told    int
	}{
		{"all well", recorder{}, batch[:5], "", 2},
		{"nothing to tell", recorder{down: true}, batch[1:4], "", 0},
		{"bus away", recorder{down: true}, batch[:5], "10", 0},
		{"second refused", recorder{refuse: []int{1}}, batch[:5], "30", 1},
		{"one unreadable", recorder{}, batch, "40", 2},
		{"refused before the unreadable", recorder{refuse: []int{0}}, batch, "10", 1},
	} {
		response, err := Handler(&tc.bus)(t.Context(), events.DynamoDBEvent{Records: tc.records})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(response.BatchItemFailures) == 1 {
			got = response.BatchItemFailures[0].ItemIdentifier
		}
		if got != tc.want || len(tc.bus.entries) != tc.told {
			t.Errorf("%s: go on from %q with %d told; want %q, %d", tc.name, got, len(tc.bus.entries), tc.want, tc.told)
		}
		for _, e := range tc.bus.entries {
			if d := e.Detail.(Detail); d.ID != "c1-4" || d.Revision != 4 || d.Card.Number != "56" || !d.At.Equal(at) ||
				!e.Time.Equal(at) {
				t.Errorf("%s: %+v", tc.name, d)
			}
		}
	}
}
