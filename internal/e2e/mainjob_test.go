package e2e

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// mobileIDs are the IDs that users of the provider have, of holders of ours or not.
func (p provider) mobileIDs() (all []string) {
	for _, n := range p.PartNumbers {
		all = append(append(all, n.Reserved...), n.Issued...)
	}
	return all
}

func TestReady(t *testing.T) {
	t.Parallel()
	r := private(t)

	if page := r.get("/").want(200); !bytes.Contains(page.body, []byte("<html")) {
		t.Errorf("the world's page: %.200s", page.body)
	}
	var profile struct {
		ID, Account, PartNumber string
		InvitationDays          int
		App                     struct{ AppleURL, GoogleURL string }
	}
	r.get("/v1/profiles/hq").want(200).into(&profile)
	if profile.Account != account || profile.PartNumber != part1 || profile.InvitationDays != 7 ||
		profile.App.AppleURL == "" || profile.App.GoogleURL == "" {
		t.Errorf("the profile of a fresh start: %+v", profile)
	}
	pool := r.provider().PartNumbers
	if len(pool) != 2 || pool[0].PartNumber != part1 || pool[1].PartNumber != part2 || len(pool[0].Available) != 100 ||
		len(pool[1].Available) != 100 {
		t.Errorf("the pool of a fresh start: %+v", pool)
	}

	// What was there is there after a restart, and the seed is not sown again.
	c := r.assign(r.holder())
	r.advance(time.Minute)
	r.restart()
	if got := r.read(c); got.Stage != "invited" || got.MobileID != c.MobileID {
		t.Errorf("after a restart: %+v", got)
	}
	r.codeOf(c.HolderID)
	r.expectAgreement()

	// Two runs on one directory would spoil it.
	second := exec.Command(program())
	second.Dir, second.Env = root, append(os.Environ(), "LOCAL_DIR="+r.dir)
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "in use by another run") ||
		strings.Count(string(out), "\n") != 1 {
		t.Errorf("a second run: %v, %s", err, out)
	}

	r.stop()
	if r.err != nil {
		t.Errorf("after Ctrl-C: %v", r.err)
	}
	r.waitUntilGone()
}

// The main job, line by line as in the README.
func TestAssignInviteActivateRevoke(t *testing.T) {
	r := shared(t)
	r.activated("warm-up") // the second below is that of functions which have run before

	r.put("/v1/profiles/hq", m{"name": "HQ employees", "account": account, "partNumber": part1}).want(200)
	holder := r.holder()
	r.put("/v1/holders/"+holder+"/picture", picture(t), "Content-Type", "image/png").want(204)

	c := r.assign(holder)
	if c.Stage != "invited" || c.Invitation.Status != "sent" || !strings.HasPrefix(c.MobileID, part1+":") ||
		c.Card.Number == "" {
		t.Errorf("assigned: %+v", c)
	}
	r.expectAgreement(holder)

	mails := r.mails(holder)
	if len(mails) != 1 {
		t.Fatalf("%d mails", len(mails))
	}
	for _, text := range []string{mails[0].HTML, mails[0].Text} {
		for _, part := range []string{mails[0].Code, "Aimée", "https://apps.apple.com/",
			"https://play.google.com/store/"} {
			if part == "" || !strings.Contains(text, part) {
				t.Errorf("the mail has no %q:\n%s", part, text)
			}
		}
	}
	if sub, ok := strings.CutPrefix(c.Invitation.CodeHint, "…"); !ok || !strings.HasSuffix(mails[0].Code, sub) {
		t.Errorf("code %s, hint %s", mails[0].Code, c.Invitation.CodeHint)
	}

	phoneA, phoneB := "a-of-"+holder, "b-of-"+holder
	redeemed := time.Now()
	r.redeem(phoneA, mails[0].Code).want(200)
	c = r.becomes(c, "activated")
	if took := time.Since(redeemed); took > time.Second {
		t.Errorf("activated after %v", took)
	}
	if c.Device.ID != phoneA || c.Device.Model == "" || c.Device.Platform == "" || c.ActivatedAt.IsZero() {
		t.Errorf("activated: %+v", c)
	}
	r.settle()
	if b := r.phone(phoneA).Badges; len(b) != 1 || b[0] != (badge{c.MobileID, "Aimée Tremblay", "HQ", true}) {
		t.Errorf("on phone A: %+v", b)
	}

	r.redeem(phoneB, mails[0].Code).want(409)
	if b := r.phone(phoneB).Badges; len(b) != 0 {
		t.Errorf("on phone B: %+v", b)
	}

	if c = r.delete(c.path()).want(200).credential(); c.Status != "revoked" || c.Stage != "" ||
		c.Provider.State != "synced" {
		t.Errorf("deleted: %+v", c)
	}
	r.delete(c.path()).want(200)
	r.expectAgreement(holder)
	if b := r.phone(phoneA).Badges; len(b) != 0 {
		t.Errorf("still on phone A: %+v", b)
	}
	if got := r.eventNames(c); got != "assigned reserved mailed activated revoke" {
		t.Errorf("history: %s", got)
	}
	last := r.history(c)[4]
	if last.From != "activated" || last.To != "revoked" || last.Actor.Type != "portal" || last.Actor.ID != "portal" ||
		last.Anomaly || last.Late {
		t.Errorf("the last entry: %+v", last)
	}
	r.redeem(phoneB, mails[0].Code).want(409, 410)

	// The next person does not get what was on a phone.
	if next := r.assign(r.holder()); next.MobileID == c.MobileID {
		t.Errorf("%s was given out again", next.MobileID)
	}
	r.expectNoDeadLetters()
}

func TestASecondCallWithTheSameKeyAssignsNothing(t *testing.T) {
	t.Parallel()
	r := shared(t)
	holder := r.holder()
	path := "/v1/holders/" + holder + "/credentials"
	first := r.post(path, m{"profileId": "hq"}, "Idempotency-Key", "k").want(201).credential()
	again := r.post(path, m{"profileId": "hq"}, "Idempotency-Key", "k").want(200)
	if again.credential().ID != first.ID || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%s %v", again.body, again.header)
	}
	if n := len(r.mails(holder)); n != 1 {
		t.Errorf("%d mails", n)
	}
	r.expectAgreement(holder)
}

func TestForgedWebhookIsRefusedAndNothingIsOnTheBus(t *testing.T) {
	t.Parallel()
	r := shared(t)
	// Two users that do not exist: the forged call names one, the provider names the other.
	batch := func(user string) []byte {
		text, err := json.Marshal([]m{{
			"specversion": "1.0", "id": "0b3c8a4e-" + user, "type": "com.origo.mi.user", "source": "user/" + user,
			"time":            "2026-01-01T00:00:00.000Z",
			"datacontenttype": "application/vnd.hidglobal.origo.events.user-2.0+json",
			"data":            m{"organization_id": "1003233", "userId": user, "status": "USER_UPDATED"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const forged, real = "9000001", "9000002"
	hook := "/v1/webhooks/" + account
	none := []string{"Authorization", "", "Content-Type", "application/cloudevents-batch+json"}
	for name, headers := range map[string][]string{
		"no secret":              nil,
		"empty":                  {webhookHeader, ""},
		"wrong":                  {webhookHeader, "local-webhook-secreT"},
		"longer":                 {webhookHeader, webhookSecret + "x"},
		"a token of ours":        {"Authorization", "Bearer " + r.token()},
		"the secret elsewhere":   {"X-Secret", webhookSecret},
		"the secret as a bearer": {"Authorization", "Bearer " + webhookSecret},
	} {
		got := r.post(hook, batch(forged), append(none, headers...)...).want(401)
		if bytes.Contains(got.body, []byte(webhookSecret)) {
			t.Errorf("%s: %s", name, got.body)
		}
	}
	r.post("/v1/webhooks/other", batch(forged), append(none, webhookHeader, webhookSecret)...).want(401, 404)
	r.post(hook, batch(real), append(none, webhookHeader, webhookSecret)...).want(200)
	r.settle()
	about := func(user string) (n int) {
		for _, e := range r.busEvents() {
			if bytes.Contains(e.Detail, []byte(`"`+user+`"`)) {
				n++
			}
		}
		return n
	}
	if about(forged) != 0 || about(real) != 1 {
		t.Errorf("on the bus: %d forged, %d real", about(forged), about(real))
	}
}

func picture(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 90, 120))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
