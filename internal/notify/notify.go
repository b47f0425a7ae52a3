// Package notify turns history entries, which it gets from the table's stream, into events for the portal and other
// receivers, and the wake of a work item into an event for the function cleanup.
//
// What belongs here: which record becomes which event, what an event says, and its JSON schema (schemas). What does
// not: writing history and work items (issuance, through the store's transaction) and the envelope (bus). No other
// package publishes what happened to credentials: every event comes from a record of the stream, and every record that
// becomes an event leaves at least once.
package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/bus"
	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/credential"
)

// Publisher puts entries on the bus; *bus.Bus does. A *bus.Error names the entries that are not there.
type Publisher interface {
	Publish(ctx context.Context, entries []bus.Entry) error
}

// Previous names the holder and credential that lost a mobile ID to the credential of a Credential Assigned event.
type Previous struct {
	HolderID     string `json:"holderId"`
	CredentialID string `json:"credentialId"`
}

// Card is what is printed on a mobile ID.
type Card struct {
	Number       string `json:"number"`
	Format       string `json:"format"`
	FacilityCode string `json:"facilityCode"`
}

// Actor is what caused the change. The user for whom the portal claims to act is not sent; the history keeps it.
type Actor struct {
	Type credential.ActorType `json:"type"`
	ID   string               `json:"id"`
}

// Detail is the body of every event; schemas/detail.json is its schema. ID is the same each time the same change is
// sent. Revision puts the events of one credential in order, which streams do not: they keep the order of one item
// only, and each history entry is an item of its own.
type Detail struct {
	ID           string    `json:"id"`
	Revision     int64     `json:"revision"`
	At           time.Time `json:"at"`
	HolderID     string    `json:"holderId"`
	CredentialID string    `json:"credentialId"`
	ProfileID    string    `json:"profileId"`
	Account      string    `json:"account"`
	MobileID     *string   `json:"mobileId"`
	Card         *Card     `json:"card"`
	Event        string    `json:"event"`
	From         *string   `json:"from"`
	To           string    `json:"to"`
	Reason       *string   `json:"reason"`
	Actor        Actor     `json:"actor"`
	Previous     *Previous `json:"previous"`
}

// The detail types. The schema of each says what a receiver may conclude from it.
const (
	CredentialAssigned   = "Credential Assigned"
	CredentialInvited    = "Credential Invited"
	CredentialAccepted   = "Credential Accepted"
	CredentialActivated  = "Credential Activated"
	CredentialDeclined   = "Credential Declined"
	CredentialExpired    = "Credential Expired"
	CredentialReassigned = "Credential Reassigned"
	CredentialRevoked    = "Credential Revoked"
	CredentialLost       = "Credential Lost"
	CredentialStolen     = "Credential Stolen"
	CredentialFailed     = "Credential Failed"
	CredentialAnomaly    = "Credential Anomaly"
)

// reached are the detail types by the final status or the stage that a change leads to.
var reached = map[string]string{
	string(credential.StageActivating):  CredentialAccepted,
	string(credential.StageActivated):   CredentialActivated,
	string(credential.StatusDeclined):   CredentialDeclined,
	string(credential.StatusExpired):    CredentialExpired,
	string(credential.StatusReassigned): CredentialReassigned,
	string(credential.StatusRevoked):    CredentialRevoked,
	string(credential.StatusLost):       CredentialLost,
	string(credential.StatusStolen):     CredentialStolen,
	string(credential.StatusFailed):     CredentialFailed,
}

// DetailType returns the detail type of the event that a history entry becomes; empty for an entry that changes nothing
// a receiver would act on, which becomes no event.
func DetailType(e credential.HistoryEntry) string {
	switch {
	case e.Anomaly:
		return CredentialAnomaly
	case e.Event == credential.EventReserved && e.To == string(credential.StageInvited):
		return CredentialAssigned
	case e.Event == credential.EventMailed && !e.Late:
		return CredentialInvited
	case e.From == e.To || e.Late:
		return ""
	}
	return reached[e.To]
}

// DetailOf returns the body of the event that a history entry becomes.
func DetailOf(e credential.HistoryEntry) Detail {
	d := Detail{
		ID: e.ID, Revision: e.Revision, At: e.At, HolderID: e.HolderID, CredentialID: e.CredentialID,
		ProfileID: e.ProfileID,
		Account:   e.Account, Event: string(e.Event), From: orNull(e.From), To: e.To, Reason: orNull(e.Reason),
		Actor: Actor{e.Actor.Type, e.Actor.ID},
	}
	if e.Mobile != nil {
		d.MobileID = &e.Mobile.ID
		d.Card = &Card{e.Mobile.Number, e.Mobile.Format, e.Mobile.FacilityCode}
	}
	if e.PreviousCredentialID != "" {
		d.Previous = &Previous{e.PreviousHolderID, e.PreviousCredentialID}
	}
	return d
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Handler returns what the function notify hands to lambda.Start: it publishes what a batch of stream records tells. It
// answers with the sequence number of the first record that could not be published, and Lambda delivers the
// stream again from there. Entries behind it that were already published are then sent twice, under the same id.
func Handler(publisher Publisher) func(context.Context, events.DynamoDBEvent) (events.DynamoDBEventResponse, error) {
	return func(ctx context.Context, batch events.DynamoDBEvent) (events.DynamoDBEventResponse, error) {
		var entries []bus.Entry
		var sequence []string // of each entry's record
		unreadable := ""
		for _, record := range batch.Records {
			entry, err := entryOf(record)
			if err != nil {
				unreadable = record.Change.SequenceNumber
				slog.ErrorContext(ctx, "record cannot be read", "sequenceNumber", unreadable, "error", err)
				break
			}
			if entry != nil {
				entries = append(entries, *entry)
				sequence = append(sequence, record.Change.SequenceNumber)
			}
		}
		failed := unreadable
		if published := publish(ctx, publisher, entries); published < len(entries) {
			failed = sequence[published]
		}
		response := events.DynamoDBEventResponse{BatchItemFailures: []events.DynamoDBBatchItemFailure{}}
		if failed != "" {
			response.BatchItemFailures = append(response.BatchItemFailures,
				events.DynamoDBBatchItemFailure{ItemIdentifier: failed})
		}
		return response, nil
	}
}

// publish publishes entries and returns how many of them, counted from the first to the first gap, are on the bus.
func publish(ctx context.Context, publisher Publisher, entries []bus.Entry) int {
	if len(entries) == 0 {
		return 0
	}
	err := publisher.Publish(ctx, entries)
	if err == nil {
		return len(entries)
	}
	slog.ErrorContext(ctx, "events not published", "error", err)
	var partial *bus.Error
	if errors.As(err, &partial) && len(partial.Failed) > 0 {
		return partial.Failed[0]
	}
	return 0
}

// entryOf returns the event that a record becomes; nil for none. The filters of the event source keep other records
// away, but only to save invocations: what is published must not depend on them.
func entryOf(record events.DynamoDBEventRecord) (*bus.Entry, error) {
	key, ok := record.Change.Keys["sk"]
	isRemoved := record.EventName == string(events.DynamoDBOperationTypeRemove)
	if !ok || key.DataType() != events.DataTypeString || isRemoved {
		return nil, nil
	}
	switch {
	case strings.HasPrefix(key.String(), "WORK#"):
		return workDue(record)
	case strings.HasPrefix(key.String(), "HIST#") && record.EventName == string(events.DynamoDBOperationTypeInsert):
		var entry credential.HistoryEntry
		if err := read(record.Change.NewImage, &entry); err != nil {
			return nil, fmt.Errorf("not a history entry: %w", err)
		}
		if kind := DetailType(entry); kind != "" {
			return &bus.Entry{DetailType: kind, Detail: DetailOf(entry), Time: entry.At}, nil
		}
	}
	return nil, nil
}

// workDue returns the event about a work item whose wake is new; nil for any other.
func workDue(record events.DynamoDBEventRecord) (*bus.Entry, error) {
	var is, was credential.WorkItem
	if err := errors.Join(read(record.Change.NewImage, &is), read(record.Change.OldImage, &was)); err != nil {
		// A wake is a hint, and the sweep comes without it; the history entries behind it must not wait.
		slog.Error("work item cannot be read", "sequenceNumber", record.Change.SequenceNumber, "error", err)
		return nil, nil
	}
	if is.Wake == nil || was.Wake != nil && was.Wake.Equal(*is.Wake) && was.Added == is.Added {
		return nil, nil
	}
	id := fmt.Sprintf("%s/%s/%d", is.HolderID, is.Account, is.Added)
	work := envelope.Work{ID: id, HolderID: is.HolderID, Account: is.Account}
	return &bus.Entry{DetailType: envelope.WorkDue, Detail: work, Time: *is.Wake}, nil
}

// read reads an item of the table. The error names only a type: a text could quote the item.
func read(image map[string]events.DynamoDBAttributeValue, into any) error {
	text, err := json.Marshal(plain(events.NewMapAttribute(image)))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("%T", err)
	}
	return nil
}

// plain turns a stream's attribute into what encoding/json makes of the same value.
func plain(v events.DynamoDBAttributeValue) any {
	switch v.DataType() {
	case events.DataTypeString:
		return v.String()
	case events.DataTypeNumber:
		return json.Number(v.Number())
	case events.DataTypeBoolean:
		return v.Boolean()
	case events.DataTypeMap:
		m := map[string]any{}
		for name, value := range v.Map() {
			m[name] = plain(value)
		}
		return m
	case events.DataTypeList:
		var list []any
		for _, value := range v.List() {
			list = append(list, plain(value))
		}
		return list
	}
	return nil // what is read here holds nothing else
}
