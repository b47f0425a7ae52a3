package origo_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
)

var (
	anIdentifier = regexp.MustCompile(`^[A-Za-z0-9._:-]{0,128}$`)
	whats        = map[provider.What]bool{provider.AboutUser: true, provider.AboutInvitation: true,
		provider.AboutEndpoint: true, provider.AboutCredential: true}
)

var batches = []string{
	`[]`, `{}`, `null`, ``, `[null,1,"x",{}]`, "\xff", strings.Repeat("[", 10_001),
	`[{"specversion":"1.0","id":"1","type":"com.origo.mi.user","time":"2026-11-20T10:12:05Z",` +
		`"data":{"userId":"103367","status":"USER_DELETED"}}]`,
	`{"specversion":"1.0","id":7,"type":"com.origo.mi.credential","time":"9999-12-31T23:59:59-23:59",` +
		`"data":{"userId":5,"mid":7,"status":"CREDENTIAL_REVOKED"}}`,
	`{"specversion":"1.0","type":"com.origo.mi.endpoint","time":"0000-01-01T00:00:00+23:59",` +
		`"data":{"userId":"undefined","endpointId":"x","status":"ENDPOINT_ACTIVE"}}`,
	`{"specversion":"1.0","type":"com.origo.mi.invitation","source":"a/invitation/9",` +
		`"data":{"userId":"u","status":"INVITATION_ACKNOWLEDGED"}}`,
	`{"specversion":"1.0","type":"com.origo.mi.credential","data":{"status":"CREDENTIAL_RESERVED",` +
		`"metaData":{"partNumber":"P Q","cardNumber":"<b>"}}}`,
}

// checkFacts fails the test unless facts can cross the bus: they are identifiers of a known kind, never text that a
// stranger may have written, and they can be encoded.
func checkFacts(t *testing.T, users []provider.UserFacts) (facts int) {
	t.Helper()
	for _, u := range users {
		text, err := json.Marshal(u)
		if err != nil || len(text) > 200<<10 {
			t.Fatalf("%d bytes cannot cross the bus: %v", len(text), err)
		}
		var back provider.UserFacts
		if err := json.Unmarshal(text, &back); err != nil || len(back.Facts) != len(u.Facts) || len(u.Facts) == 0 {
			t.Fatalf("%s arrives as %+v: %v", text, back, err)
		}
		for _, f := range u.Facts {
			facts++
			for _, id := range []string{u.UserID, f.Ref, f.DeviceID, f.MobileID} {
				if !anIdentifier.MatchString(id) || strings.EqualFold(id, "undefined") || strings.EqualFold(id, "null") {
					t.Fatalf("%q is taken for an identifier", id)
				}
			}
			if !whats[f.What] || f.Status == "" || u.UserID == "" && f.MobileID == "" {
				t.Fatalf("%+v of user %q says nothing", f, u.UserID)
			}
		}
	}
	return facts
}

func FuzzTranslate(f *testing.F) {
	for _, batch := range batches {
		f.Add([]byte(batch))
	}
	example, err := os.ReadFile("testdata/events-batch.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Fuzz(func(t *testing.T, batch []byte) {
		users, rejected, err := origo.Translate("acme-origo", batch)
		if err != nil {
			if users != nil || rejected != nil {
				t.Fatal("what is no batch has events")
			}
			return
		}
		n := checkFacts(t, users)
		for _, r := range rejected {
			if r.Reason == "" || !anIdentifier.MatchString(r.ID) || !anIdentifier.MatchString(r.Type) {
				t.Fatalf("rejected as %+v", r)
			}
		}
		var all []json.RawMessage
		if json.Unmarshal(batch, &all) != nil {
			all = []json.RawMessage{batch}
		}
		if n+len(rejected) != len(all) {
			t.Fatalf("of %d events, %d are taken and %d rejected", len(all), n, len(rejected))
		}
	})
}

// FuzzFeed reads a feed that answers anything, from any bookmark: what comes of it can cross the bus, and the next
// bookmark is one that is read on from.
func FuzzFeed(f *testing.F) {
	for _, batch := range batches {
		f.Add("", []byte(batch))
		f.Add("2026-11-20T10:10:05Z abc def", []byte(`{"totalResults":1,"Resources":[`+batch+`]}`))
	}
	f.Add("9999-12-31T23:59:59.999999999Z", []byte(`{"totalResults":-1,"Resources":null}`))
	f.Add("no bookmark", []byte(`{"totalResults":1e9,"Resources":[{}]}`))
	var answer []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/events" {
			_, _ = w.Write([]byte(`{"access_token":"T","expires_in":3600}`))
			return
		}
		if r.URL.Query().Get("startIndex") != "1" {
			_, _ = w.Write([]byte(`[]`))
			return
		}
		_, _ = w.Write(answer)
	}))
	f.Cleanup(server.Close)
	client := origo.New(config(server.URL), server.Client(), new(clock).Now, new(limiter))
	f.Fuzz(func(t *testing.T, mark string, page []byte) {
		answer = page
		feed, err := client.Feed(t.Context(), mark, start, 0)
		if err != nil {
			return
		}
		checkFacts(t, feed.Users)
		first, _, _ := strings.Cut(feed.Next, " ")
		at, err := time.Parse(time.RFC3339Nano, first)
		if err != nil {
			t.Fatalf("bookmark %q leads nowhere: %v", feed.Next, err)
		}
		words := append(strings.Fields(mark), "")
		if before, err := time.Parse(time.RFC3339Nano, words[0]); err == nil && at.Before(before) {
			t.Fatalf("bookmark %q leads back to %q", mark, feed.Next)
		}
		again, err := client.Feed(t.Context(), feed.Next, start, 0)
		if err != nil {
			t.Fatalf("from bookmark %q: %v", feed.Next, err)
		}
		if !feed.More && len(again.Users) > 0 {
			t.Fatalf("bookmark %q reports again: %+v", feed.Next, again.Users)
		}
	})
}
