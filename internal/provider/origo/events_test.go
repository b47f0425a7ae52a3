package origo_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
)

func TestTranslateTheBatch(t *testing.T) {
	users, rejected, err := origo.Translate("acme-origo", fixture(t, "events-batch.json"))
	if err != nil || len(rejected) != 0 {
		t.Fatal(rejected, err)
	}
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	equal(t, users, []provider.UserFacts{
		{Account: "acme-origo", UserID: "103367", Facts: []provider.Fact{
			{What: provider.AboutInvitation, Ref: "16247463", Status: provider.FactAccepted,
				At: at("2026-11-20T10:12:00.12Z")},
			{What: provider.AboutEndpoint, Ref: "550017", DeviceID: "550017", Status: provider.FactActive,
				At: at("2026-11-20T10:12:01.3Z")},
			{What: provider.AboutCredential, Ref: "887001", Status: provider.FactIssued,
				At: at("2026-11-20T10:12:04.01Z")},
			{What: provider.AboutUser, Ref: "103367", Status: provider.FactUpdated, At: at("2026-11-20T10:12:05Z")},
		}},
		{Account: "acme-origo", Facts: []provider.Fact{
			{What: provider.AboutCredential, Ref: "887001", Status: provider.FactReserved, MobileID: part + ":56",
				At: at("2026-11-20T10:12:06Z")},
		}},
	})
	text, _ := json.Marshal(users)
	for _, private := range []string{"Aimée", "Tremblay", "example.com", "BPEX", "iPhone", "1003233"} {
		if bytes.Contains(text, []byte(private)) {
			t.Errorf("facts tell %s: %s", private, text)
		}
	}
}

func TestTranslateOneEvent(t *testing.T) {
	for _, tt := range []struct {
		name, event string
		userID      string
		want        provider.Fact
	}{
		{"numbers as ids",
			`{"specversion":"1.0","type":"com.origo.mi.credential","data":{"userId":5,"mid":7,
				"status":"CREDENTIAL_REVOKED"}}`,
			"5", provider.Fact{What: provider.AboutCredential, Ref: "7", Status: provider.FactRevoked}},
		{"only begun",
			`{"specversion":"1.0","type":"com.origo.mi.invitation","source":"x/invitation/9","data":{"userId":"5",
				"status":"INVITATION_CANCEL_INITIATED"}}`,
			"5", provider.Fact{What: provider.AboutInvitation, Ref: "9", Status: provider.FactOther}},
		{"cancelled",
			`{"specversion":"1.0","type":"com.origo.mi.invitation","source":"x/invitation/9","data":{"userId":"5",
				"status":"INVITATION_CANCELLED"}}`,
			"5", provider.Fact{What: provider.AboutInvitation, Ref: "9", Status: provider.FactCancelled}},
		{"expired, of an invitation that cannot be named",
			`{"specversion":"1.0","type":"com.origo.mi.invitation","source":"undefined","data":{"userId":"5",
				"status":"INVITATION_EXPIRED"}}`,
			"5", provider.Fact{What: provider.AboutInvitation, Status: provider.FactExpired}},
		{"a user who names himself by source only",
			`{"specversion":"1.0","type":"com.origo.mi.user","source":"https://example.invalid/user/5",
				"data":{"userId":"undefined","status":"USER_DELETED"}}`,
			"5", provider.Fact{What: provider.AboutUser, Ref: "5", Status: provider.FactDeleted}},
		{"a device removed",
			`{"specversion":"1.0","type":"origo.credential-management.events.credentialcontainer","data":{"id":"550017",
				"userId":"5","status":"CREDENTIALCONTAINER_INACTIVE"}}`,
			"5", provider.Fact{What: provider.AboutEndpoint, Ref: "550017", DeviceID: "550017",
				Status: provider.FactInactive}},
		{"a device added",
			`{"specversion":"1.0","type":"origo.credential-management.events.credentialcontainer","data":{"id":"550017",
				"userId":"5","status":"CREDENTIALCONTAINER_PERSONALIZED"}}`,
			"5", provider.Fact{What: provider.AboutEndpoint, Ref: "550017", DeviceID: "550017",
				Status: provider.FactActive}},
		{"an unknown status",
			`{"specversion":"1.0","type":"com.origo.mi.user","data":{"userId":"5","status":"USER_KNIGHTED"}}`,
			"5", provider.Fact{What: provider.AboutUser, Ref: "5", Status: provider.FactOther}},
		{"a status of another type",
			`{"specversion":"1.0","type":"com.origo.mi.user","data":{"userId":"5","status":"CREDENTIAL_ISSUED"}}`,
			"5", provider.Fact{What: provider.AboutUser, Ref: "5", Status: provider.FactOther}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, body := range []string{tt.event, " [" + tt.event + "] "} {
				users, rejected, err := origo.Translate("a", []byte(body))
				if err != nil || len(rejected) != 0 {
					t.Fatal(rejected, err)
				}
				equal(t, users,
					[]provider.UserFacts{{Account: "a", UserID: tt.userID, Facts: []provider.Fact{tt.want}}})
			}
		})
	}
}

func TestBadEventsAreRejectedAndStopNoOther(t *testing.T) {
	const good = `{"specversion":"1.0","id":"good","type":"com.origo.mi.user","data":{"userId":"5",
		"status":"USER_UPDATED"}}`
	long := strings.Repeat("x", 129)
	for _, tt := range []struct{ event, id, eventType, reason string }{
		{`null`, "", "", origo.RejectMalformed},
		{`7`, "", "", origo.RejectMalformed},
		{`"text"`, "", "", origo.RejectMalformed},
		{`[]`, "", "", origo.RejectMalformed},
		{`{}`, "", "", origo.RejectMalformed},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.user"}`, "e", "com.origo.mi.user", origo.RejectMalformed},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.user","data":null}`, "e", "com.origo.mi.user",
			origo.RejectMalformed},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.user","data":[]}`, "e", "com.origo.mi.user",
			origo.RejectMalformed},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.user","data":"x"}`, "e", "com.origo.mi.user",
			origo.RejectMalformed},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.user","data":{"userId":"5"}}`, "e", "com.origo.mi.user",
			origo.RejectMalformed},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.user","data":{"userId":"5","status":3}}`, "e",
			"com.origo.mi.user", origo.RejectMalformed},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.user","time":"yesterday","data":{"userId":"5",
			"status":"USER_UPDATED"}}`, "e", "com.origo.mi.user", origo.RejectMalformed},
		{`{"specversion":"0.3","id":"e","type":"com.origo.mi.user","data":{"userId":"5","status":"USER_UPDATED"}}`, "e",
			"com.origo.mi.user", origo.RejectMalformed},
		{`{"id":"e","type":"com.origo.mi.user","data":{"userId":"5","status":"USER_UPDATED"}}`, "e",
			"com.origo.mi.user", origo.RejectMalformed},
		{`{"specversion":"1.0","id":"e","type":7,"data":{"userId":"5","status":"USER_UPDATED"}}`, "e", "",
			origo.RejectMalformed},
		{`{"specversion":"1.0","id":"e","type":"origo.credential-management.events.pass","data":{"userId":"5",
			"status":"PASS_CREATED"}}`, "e", "origo.credential-management.events.pass", origo.RejectUnknownType},
		{`{"specversion":"1.0","id":8,"type":"com.example.x","data":{"status":"X"}}`, "8", "com.example.x",
			origo.RejectUnknownType},
		{`{"specversion":"1.0","id":"aimee@example.com","type":"Aimée Tremblay","data":{"status":"X"}}`, "", "",
			origo.RejectUnknownType},
		{`{"specversion":"1.0","id":"` + long + `","type":"` + long + `","data":{"status":"X"}}`, "", "",
			origo.RejectUnknownType},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.credential","data":{"userId":"undefined","mid":"7",
			"status":"CREDENTIAL_ISSUED"}}`, "e", "com.origo.mi.credential", origo.RejectNoSubject},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.credential","data":{"userId":"aimee@example.com","mid":"7",
			"status":"CREDENTIAL_ISSUED"}}`, "e", "com.origo.mi.credential", origo.RejectNoSubject},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.credential","data":{"userId":"` + long +
			`","mid":"7","status":"CREDENTIAL_ISSUED"}}`, "e", "com.origo.mi.credential", origo.RejectNoSubject},
		{`{"specversion":"1.0","id":"e","type":"com.origo.mi.credential","data":{"userId":"","mid":"7",
			"status":"CREDENTIAL_ISSUED",
			"metaData":{"partNumber":"P"}}}`, "e", "com.origo.mi.credential", origo.RejectNoSubject},
	} {
		users, rejected, err := origo.Translate("a", []byte("["+good+","+tt.event+","+good+"]"))
		if err != nil {
			t.Fatal(tt.event, err)
		}
		if len(users) != 1 || len(users[0].Facts) != 2 {
			t.Errorf("%s: %v", tt.event, users)
		}
		equal(t, rejected, []origo.Rejected{{ID: tt.id, Type: tt.eventType, Reason: tt.reason}})
	}
}

func TestWhatIsNoBatch(t *testing.T) {
	for _, body := range []string{"", " ", "null", "7", `"CANARY"`, "CANARY", "[", "[{]", `{"a":1}{}`, "[] []", `[1,]`,
		"\xff", "{", strings.Repeat("[", 20000)} {
		_, _, err := origo.Translate("a", []byte(body))
		if err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%.20q: %v", body, err)
		}
	}
	users, rejected, err := origo.Translate("a", []byte("[]"))
	if len(users)+len(rejected) != 0 || err != nil {
		t.Error(users, rejected, err)
	}
}

func TestManyFactsAboutOneUserComeInPieces(t *testing.T) {
	var events []string
	for i := range 450 {
		events = append(events,
			fmt.Sprintf(
				`{"specversion":"1.0","type":"com.origo.mi.credential","data":{"userId":"5","mid":"%d",
					"status":"CREDENTIAL_ISSUED"}}`, i))
	}
	users, _, err := origo.Translate("a", []byte("["+strings.Join(events, ",")+"]"))
	if err != nil || len(users) != 3 {
		t.Fatal(len(users), err)
	}
	n := 0
	for _, u := range users {
		for _, f := range u.Facts {
			if f.Ref != fmt.Sprint(n) {
				t.Fatalf("fact %d is about %s", n, f.Ref)
			}
			n++
		}
	}
	if n != 450 {
		t.Errorf("%d facts", n)
	}
}

// Such a time could not be written as JSON, and would stop all events of its batch.
func TestAnEventOfAnImpossibleTimeIsReadWithoutIt(t *testing.T) {
	for _, at := range []string{"9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59"} {
		users, rejected, err := origo.Translate("acme-origo", []byte(`{"specversion":"1.0","time":"`+at+`",
			"type":"com.origo.mi.user","data":{"userId":"5","status":"USER_DELETED"}}`))
		if err != nil || len(rejected) != 0 || len(users) != 1 || !users[0].Facts[0].At.IsZero() {
			t.Errorf("at %s: %+v, %+v, %v", at, users, rejected, err)
		}
	}
}
