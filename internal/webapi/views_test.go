package webapi_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// same compares JSON texts: names, order and all, spacing aside.
func same(t *testing.T, got, want string) {
	t.Helper()
	var w bytes.Buffer
	if err := json.Compact(&w, []byte(want)); err != nil {
		t.Fatal(err)
	}
	if w.String()+"\n" != got {
		t.Errorf("got  %swant %s", got, w.String())
	}
}

func TestProfileInJSON(t *testing.T) {
	w := newWorld(t)
	shortest := w.put("/v1/profiles/hq", hq).want(t, 201)
	same(t, shortest.body,
		`{"id":"hq","name":"HQ employees","description":"","account":"acme-origo","partNumber":"MID-SUB-CRD_FTPN_1001",
		"app":{"name":"HID Mobile Access","appleUrl":"https://apps.apple.com/search?term=HID%20Mobile%20Access",
			"googleUrl":"https://play.google.com/store/apps/details?id=com.hidglobal.mobilekeys.android.v3"},
		"invitationDays":7,"locale":"en","timeZone":"UTC",
		"sender":{"name":"","replyTo":"","company":"","logoUrl":null,"color":"#1f4e79","support":""},"lowStock":10,"retired":false,"stock":null}`)
	if shortest.header["ETag"] != `"1"` {
		t.Errorf("ETag %s", shortest.header["ETag"])
	}
	asOf := time.Date(2030, 1, 10, 10, 0, 0, 123456789, time.FixedZone("", 3600))
	if err := w.Store.PutStock(t.Context(), credential.Stock{Account: account, PartNumber: "MID-SUB-CRD_FTPN_1001",
		Available: 7, AsOf: asOf}); err != nil {
		t.Fatal(err)
	}
	whole := `{"id":"hq","name":"HQ <b>","description":"Main","account":"acme-origo","partNumber":"MID-SUB-CRD_FTPN_1001",
		"app":{"name":"App","appleUrl":"https://a.example/x","googleUrl":"https://g.example/y"},
		"invitationDays":30,"locale":"de-CH","timeZone":"Europe/Zurich",
		"sender":{"name":"S","replyTo":"r@acme.example","company":"Acme","logoUrl":"https://acme.example/l.png","color":"#B00020","support":"call"},
		"lowStock":0,"retired":false,"stock":{"available":7,"asOf":"2030-01-10T09:00:00.123Z"}}`
	var body m
	if err := json.Unmarshal([]byte(whole), &body); err != nil {
		t.Fatal(err)
	}
	delete(body, "id")
	delete(body, "retired")
	delete(body, "stock")
	replaced := w.put("/v1/profiles/hq", body).want(t, 200)
	same(t, replaced.body, whole)
	read := w.get("/v1/profiles/hq").want(t, 200)
	same(t, read.body, whole)
	if read.header["ETag"] != `"2"` || replaced.header["ETag"] != `"2"` {
		t.Errorf("ETags %s, %s", read.header["ETag"], replaced.header["ETag"])
	}
	same(t, w.get("/v1/profiles").body, `{"items":[`+whole+`],"nextCursor":null}`)
}

func TestHolderInJSON(t *testing.T) {
	w := newWorld(t)
	const least = `{"id":"E-1","kind":"cardholder","firstName":"","lastName":"","email":"","locale":"","timeZone":"","validUntil":null,"hasPicture":false`
	same(t, w.put("/v1/holders/E-1", m{}).want(t, 201).body, least+"}")
	same(t, w.get("/v1/holders/E-1").want(t, 200).body, least+`,"credentials":[]}`)
	same(t, w.put("/v1/holders/V-1", m{"kind": "visitor", "firstName": " Ada\u00a0", "lastName": "Lovelace",
		"email": "ada@example.com", "locale": "en-GB",
		"timeZone": "Europe/London", "validUntil": "2030-02-01T00:00:00.5+01:00"}).want(t, 201).body,
		`{"id":"V-1","kind":"visitor","firstName":"Ada","lastName":"Lovelace","email":"ada@example.com","locale":"en-GB","timeZone":"Europe/London",
		"validUntil":"2030-01-31T23:00:00.5Z","hasPicture":false}`)
	w.put("/v1/holders/E-1/picture", onePixel(t)).want(t, 204)
	if got := w.get("/v1/holders/E-1").at(t, "hasPicture"); got != true {
		t.Errorf("hasPicture is %v", got)
	}
	same(t, w.delete("/v1/holders/V-1").want(t, 202).body, `{"id":"V-1","erasing":true}`)
}

func TestCredentialInJSON(t *testing.T) {
	w := settled(t)
	w.providerDown()
	path := w.post("/v1/holders/E-1/credentials", m{}).want(t, 202).header["Location"]
	id := path[len("/v1/holders/E-1/credentials/"):]
	unknown := w.get(path)
	same(t, unknown.body,
		`{"id":"`+id+`","holderId":"E-1","profileId":"hq","name":"HQ employees","status":"active","statusReason":null,"stage":"invited",
		"mobileId":null,"card":null,"invitation":{"status":"pending","codeHint":null,"sentTo":null,"sentAt":null,"expiresAt":null,"mails":0},
		"device":null,"activatedAt":null,"provider":{"account":"acme-origo","state":"pending","lastError":"provider_unavailable"},
		"warnings":[{"code":"provider_unreachable","since":"2030-01-10T09:00:00Z","detail":"provider_unavailable"}],"replaces":null,"replacedBy":null,
		"createdAt":"2030-01-10T09:00:00Z","updatedAt":"2030-01-10T09:00:00Z","revision":`+unknown.header["ETag"][1:2]+`}`)
	w.Mend()
	w.Must(w.Store.SetOutage(w.Ctx, account, credential.Outage{})) // as the sweep's probe does

	path = w.assigned()
	sent := w.get(path)
	invitation := sent.at(t, "invitation").(map[string]any)
	if sent.at(t, "mobileId") != "MID-SUB-CRD_FTPN_1001:1" && sent.at(t, "mobileId") != "MID-SUB-CRD_FTPN_1001:2" ||
		sent.at(t, "card.format") != "H10301" || sent.at(t, "card.facilityCode") != "42" ||
		invitation["status"] != "sent" ||
		invitation["sentAt"] != "2030-01-10T09:00:00Z" || invitation["mails"] != 1.0 || sent.at(t,
		"provider.state") != "synced" {
		t.Error(sent.body)
	}
	if strings.Contains(sent.body, w.Mailbox.Letters()[0].Code.Reveal()) {
		t.Error("the code is in the answer")
	}
	w.happens(path, credential.Event{Kind: credential.EventActivated, Device: &credential.Device{ID: "phone-1",
		Platform: "iOS"},
		Actor: credential.Actor{Type: credential.ActorProvider, ID: account}})
	activated := w.get(path)
	device, _ := json.Marshal(activated.at(t, "device"))
	if string(device) != `{"id":"phone-1","model":null,"platform":"iOS"}` || activated.at(t,
		"activatedAt") != "2030-01-10T09:00:00Z" ||
		activated.at(t, "stage") != "activated" {
		t.Error(activated.body)
	}
	w.do(request{method: "DELETE", path: path, header: map[string]string{"mobilecred-actor": "ada.user"}}).want(t, 200)
	ended := w.get(path)
	if ended.at(t, "stage") != nil || ended.at(t, "status") != "revoked" || ended.at(t, "statusReason") != "deleted" {
		t.Error(ended.body)
	}

	items := w.get(path+"/history").at(t, "items").([]any)
	first, _ := json.Marshal(items[0])
	var event m
	if err := json.Unmarshal(first, &event); err != nil || event["event"] != "assigned" || event["from"] != nil ||
		event["to"] != "invited" {
		t.Errorf("%s", first)
	}
	last, _ := json.Marshal(items[len(items)-1])
	if err := json.Unmarshal(last, &event); err != nil {
		t.Fatal(err)
	}
	delete(event, "id")
	delete(event, "revision")
	last, _ = json.Marshal(event)
	if string(last) != `{"actor":{"claimed":"ada.user","id":"portal-1","type":"portal"},"anomaly":false,"at":"2030-01-10T09:00:00Z","event":"revoke",`+
		`"from":"activated","late":false,"reason":"deleted","to":"revoked"}` {
		t.Errorf("%s", last)
	}
}

func TestListPages(t *testing.T) {
	w := settled(t)
	for range 5 {
		w.assigned()
		w.Advance(time.Second)
	}
	w.post("/v1/holders/V-9/credentials", m{"holder": m{"kind": "visitor", "validUntil": "2031-01-01T00:00:00Z",
		"firstName": "Grace", "lastName": "Hopper",
		"email": "grace@example.com"}}).want(t, 201)
	seen := map[any]bool{}
	path := "/v1/credentials?profileId=hq&limit=4"
	for pages := 1; ; pages++ {
		page := w.get(path).want(t, 200)
		for _, item := range page.at(t, "items").([]any) {
			seen[item.(map[string]any)["id"]] = true
		}
		next := page.at(t, "nextCursor")
		if next == nil {
			if pages != 2 || len(seen) != 6 {
				t.Errorf("%d credentials on %d pages", len(seen), pages)
			}
			return
		}
		path = "/v1/credentials?profileId=hq&limit=4&cursor=" + next.(string)
	}
}
