package origo

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider"
)

// Rejected names an event that cannot be used. ID and Type are empty when they do not look like identifiers, since they
// go into the log.
type Rejected struct {
	ID     string
	Type   string
	Reason string // one of the Reject constants
}

// Why an event is rejected.
const (
	RejectMalformed   = "malformed"    // not a CloudEvents 1.0 object with an object as its data and a status in it
	RejectUnknownType = "unknown_type" // also passes for wallets, whose users are not those of invitations
	RejectNoSubject   = "no_subject"   // names neither a user nor a mobile ID
)

// factsPerUser bounds one UserFacts, so that it fits into one entry of the bus (256 kB).
const factsPerUser = 200

// Translate turns what HID sends to a callback, an array of CloudEvents (application/cloudevents-batch+json) or a
// single one (application/cloudevents+json), into facts, grouped by the provider's user, in the order in which users
// and events come first. A user with more than 200 facts comes in several pieces. Only the fields of provider.Fact are
// taken over. An event that cannot be used is rejected and stops no other. The error means that body is not JSON, or
// neither an array nor an object; it quotes nothing.
func Translate(account string, body []byte) ([]provider.UserFacts, []Rejected, error) {
	events, err := split(body)
	if err != nil {
		return nil, nil, err
	}
	users, rejected := translate(account, events)
	return users, rejected, nil
}

func split(body []byte) ([]json.RawMessage, error) {
	var events []json.RawMessage
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) && json.Valid(body) {
		return append(events, body), nil
	}
	if json.Unmarshal(body, &events) != nil || events == nil { // null is no array
		return nil, errors.New("origo: events: neither an array nor an object in JSON")
	}
	return events, nil
}

func translate(account string, events []json.RawMessage) (users []provider.UserFacts, rejected []Rejected) {
	place := map[string]int{}
	for _, raw := range events {
		userID, fact, refused := read(raw)
		if refused != nil {
			rejected = append(rejected, *refused)
			continue
		}
		i, known := place[userID]
		if !known || len(users[i].Facts) == factsPerUser {
			i = len(users)
			place[userID] = i
			users = append(users, provider.UserFacts{Account: account, UserID: userID})
		}
		users[i].Facts = append(users[i].Facts, fact)
	}
	return users, rejected
}

// event is the part of a CloudEvent that is read. The members are those that several public clients receive.
type event struct {
	SpecVersion string          `json:"specversion"`
	ID          json.RawMessage `json:"id"`
	Type        string          `json:"type"`
	Source      string          `json:"source"`
	Time        *time.Time      `json:"time"`
	Data        *struct {
		ID         id     `json:"id"`
		UserID     id     `json:"userId"`
		MID        id     `json:"mid"`
		EndpointID id     `json:"endpointId"`
		Status     string `json:"status"`
		MetaData   struct {
			PartNumber id `json:"partNumber"`
			CardNumber id `json:"cardNumber"`
		} `json:"metaData"`
	} `json:"data"`
}

// when is the time of the event; zero when it has none, and when it has one that could not cross the bus: in UTC it can
// lie in the year 10000, which JSON does not write, and all events of the batch would be refused with it for ever.
func (e event) when() time.Time {
	if e.Time == nil {
		return time.Time{}
	}
	at := e.Time.UTC()
	if at.Year() < 1970 || at.Year() > 9999 {
		return time.Time{}
	}
	return at
}

// kind describes one type of event: what it is about, what its statuses begin with, and what its resource is called in
// source.
type kind struct {
	what      provider.What
	prefix    string
	resources []string
}

var kinds = map[string]kind{
	"com.origo.mi.user":       {provider.AboutUser, "USER_", []string{"user", "users"}},
	"com.origo.mi.invitation": {provider.AboutInvitation, "INVITATION_", []string{"invitation"}},
	"com.origo.mi.endpoint":   {provider.AboutEndpoint, "ENDPOINT_", []string{"credential-container", "endpoint"}},
	"com.origo.mi.credential": {provider.AboutCredential, "CREDENTIAL_", []string{"credential"}},
	"origo.credential-management.events.credentialcontainer": {provider.AboutEndpoint, "CREDENTIALCONTAINER_",
		[]string{"credential-container", "credentialcontainer"}},
	"origo.credential-management.events.credential": {provider.AboutCredential, "CREDENTIAL_", []string{"credential"}},
}

// statuses holds what has happened. What was only begun (…_INITIATED) is FactOther. Of some it is not known what they
// come to, so they only cause a reading.
var statuses = map[string]provider.FactStatus{
	"CREATED":      provider.FactCreated,
	"UPDATED":      provider.FactUpdated,
	"DELETED":      provider.FactDeleted,
	"PENDING":      provider.FactPending,
	"ACKNOWLEDGED": provider.FactAccepted,
	"CANCELLED":    provider.FactCancelled,
	"EXPIRED":      provider.FactExpired,
	"RESERVED":     provider.FactReserved,
	"ISSUED":       provider.FactIssued,
	"REVOKED":      provider.FactRevoked,
	"ACTIVE":       provider.FactActive,
	"PERSONALIZED": provider.FactActive,
	"INACTIVE":     provider.FactInactive,

	"UNBOUND":          provider.FactChanged,
	"REVOKING":         provider.FactChanged,
	"CREATION_FAILURE": provider.FactChanged,
}

func read(raw json.RawMessage) (userID string, fact provider.Fact, refused *Rejected) {
	var e event
	err := json.Unmarshal(raw, &e)
	reject := func(reason string) (string, provider.Fact, *Rejected) {
		return "", provider.Fact{}, &Rejected{ID: eventID(e.ID), Type: identifier(e.Type), Reason: reason}
	}
	if err != nil || e.SpecVersion != "1.0" || e.Type == "" || e.Data == nil || e.Data.Status == "" {
		return reject(RejectMalformed)
	}
	k, known := kinds[e.Type]
	if !known {
		return reject(RejectUnknownType)
	}
	fact = provider.Fact{What: k.what, Status: provider.FactOther,
		MobileID: identifier(mobileID(string(e.Data.MetaData.PartNumber), string(e.Data.MetaData.CardNumber)))}
	if word, ok := strings.CutPrefix(e.Data.Status, k.prefix); ok && statuses[word] != "" {
		fact.Status = statuses[word]
	}
	fact.At = e.when()
	userID = identifier(string(e.Data.UserID))
	named := map[provider.What][]id{
		provider.AboutUser:       {e.Data.UserID},
		provider.AboutEndpoint:   {e.Data.EndpointID, e.Data.ID},
		provider.AboutCredential: {e.Data.MID, e.Data.ID},
	}
	for _, ref := range append(named[k.what], k.fromSource(e.Source)) {
		if fact.Ref == "" {
			fact.Ref = identifier(string(ref))
		}
	}
	fact.DeviceID = identifier(string(e.Data.EndpointID))
	if k.what == provider.AboutEndpoint {
		fact.DeviceID = fact.Ref
	}
	if k.what == provider.AboutUser && userID == "" {
		userID = fact.Ref
	}
	if userID == "" && fact.MobileID == "" {
		return reject(RejectNoSubject)
	}
	return userID, fact, nil
}

// fromSource takes the id from the URL of the resource that an event is about: the id of an invitation stands nowhere
// else.
func (k kind) fromSource(source string) id {
	parts := strings.Split(source, "/")
	if len(parts) < 2 {
		return ""
	}
	for _, r := range k.resources {
		if parts[len(parts)-2] == r && usable(parts[len(parts)-1]) {
			return id(parts[len(parts)-1])
		}
	}
	return ""
}

func eventID(raw json.RawMessage) string {
	var i id
	if raw == nil || i.UnmarshalJSON(raw) != nil {
		return ""
	}
	return identifier(string(i))
}

// identifier returns text that looks like an identifier (at most 128 of [A-Za-z0-9._:-]) and "" for any other. Facts
// and rejections go to the bus and to logs, which must not hold addresses, names, or texts that a stranger may have
// written into an event.
func identifier(text string) string {
	if len(text) > 128 {
		return ""
	}
	for _, r := range text {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:-", r)) {
			return ""
		}
	}
	return text
}
