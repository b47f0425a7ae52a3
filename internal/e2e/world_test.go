package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mail, phone, provider, event, deadLetter and fault are the JSON of the simulated world.
type (
	mail  struct{ ID, To, Subject, HTML, Text, Code, Link string }
	badge struct {
		MobileID, HolderName, Profile string
		HasPicture                    bool
	}
	phone struct {
		DeviceID string
		Badges   []badge
	}
	provider struct {
		Users []struct {
			ID, ExternalID, Email string
			Invitations           []struct {
				ID, Status string
				MobileID   *string
			}
		}
		PartNumbers []struct {
			PartNumber                  string
			Available, Reserved, Issued []string
		}
	}
	event struct {
		ID, Source string
		DetailType string `json:"detail-type"`
		Detail     json.RawMessage
	}
	deadLetter struct {
		Queue   string
		Message json.RawMessage
	}
	fault struct {
		Service string `json:"service"`
		Op      string `json:"op,omitempty"`
		Kind    string `json:"kind"`
		When    string `json:"when,omitempty"`
		Count   int    `json:"count,omitempty"`
		HoldMs  int    `json:"holdMs,omitempty"`
	}
)

// mails are the mails to a holder, newest first.
func (r *run) mails(holder string) []mail {
	r.t.Helper()
	var all []mail
	r.get("/mail").want(200).into(&all)
	return slices.DeleteFunc(all, func(x mail) bool { return !strings.Contains(x.To, address(holder)) })
}

// codeOf is the code in the holder's newest mail.
func (r *run) codeOf(holder string) string {
	r.t.Helper()
	mails := r.mails(holder)
	if len(mails) == 0 || mails[0].Code == "" {
		r.t.Fatalf("no code was mailed to %s: %v", holder, mails)
	}
	return mails[0].Code
}

func (r *run) redeem(device, code string) answer {
	r.t.Helper()
	return r.post("/phones/"+device+"/redeem", m{"code": code})
}

func (r *run) decline(device, code string) answer {
	r.t.Helper()
	return r.post("/phones/"+device+"/decline", m{"code": code})
}

func (r *run) phone(device string) phone {
	r.t.Helper()
	var p phone
	r.get("/phones/" + device).want(200).into(&p)
	return p
}

func (r *run) provider() provider {
	r.t.Helper()
	var p provider
	r.get("/provider").want(200).into(&p)
	return p
}

// reassign does what an administrator does in the provider's portal: it gives a mobile ID to the user with that
// externalId, who may be one of our holders or a stranger.
func (r *run) reassign(mobileID, externalID string) {
	r.t.Helper()
	if r.get("/v1/holders/"+externalID).status == 404 {
		r.mu.Lock()
		r.foreign[externalID] = true
		r.mu.Unlock()
	}
	r.post("/provider/reassign", m{"mobileId": mobileID, "externalId": externalID}).want(200)
}

// cancel does what an administrator does in the provider's portal: it cancels an invitation.
func (r *run) cancel(code string) {
	r.t.Helper()
	r.post("/provider/cancel", m{"code": code}).want(200)
}

// revoke does what an administrator does in the provider's portal: it revokes a mobile ID.
func (r *run) revoke(mobileID string) {
	r.t.Helper()
	r.post("/provider/revoke", m{"mobileId": mobileID}).want(200)
}

// busEvents are the events that crossed our bus, in the order of the world's answer.
func (r *run) busEvents() []event {
	r.t.Helper()
	var list []event
	r.get("/events").want(200).into(&list)
	return list
}

func (r *run) deadLetters() []deadLetter {
	r.t.Helper()
	var list []deadLetter
	r.get("/deadletters").want(200).into(&list)
	return list
}

func (r *run) expectNoDeadLetters() {
	r.t.Helper()
	if list := r.deadLetters(); len(list) > 0 {
		r.t.Errorf("dead letters: %s", list)
	}
}

// settle waits until every event has come to rest.
func (r *run) settle() {
	r.t.Helper()
	r.post("/settle", nil).want(200)
}

// advance moves the clock of a private run, once all is at rest, and runs the schedules.
func (r *run) advance(d time.Duration) {
	r.t.Helper()
	r.post("/clock", m{"advance": d.String()}).want(200)
}

// fault makes the simulated world fail calls, as f says.
func (r *run) fault(f fault) {
	r.t.Helper()
	r.post("/faults", f).want(200)
}

func (r *run) faults() []fault {
	r.t.Helper()
	var list []fault
	r.get("/faults").want(200).into(&list)
	return list
}

func (r *run) fairWeather() {
	r.t.Helper()
	r.delete("/faults").want(200)
}

// eventually calls wrong whenever the world reports a change, until wrong returns an empty text. Otherwise wrong
// returns what is not yet as it should be.
func (r *run) eventually(wrong func() string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", r.world("/stream"), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	changes := bufio.NewScanner(resp.Body)
	for changes.Scan() {
		if !strings.HasPrefix(changes.Text(), "event:") {
			continue
		}
		if wrong() == "" {
			return
		}
	}
	if last := wrong(); last != "" {
		r.t.Fatalf("%s; and it stayed so: %v", last, errors.Join(changes.Err(), ctx.Err()))
	}
}

// loseCallbacks makes the world drop the provider's callbacks until fairWeather.
func (r *run) loseCallbacks() {
	r.t.Helper()
	r.fault(fault{Service: "origo", Kind: "drop", Count: 1 << 20})
}

// lostCallbacks says how many callbacks were lost since loseCallbacks.
func (r *run) lostCallbacks() int {
	r.t.Helper()
	for _, f := range r.faults() {
		if f.Kind == "drop" {
			return 1<<20 - f.Count
		}
	}
	return 0
}

// metricCount is how often a metric was raised so far, as the functions' logs say.
func (r *run) metricCount(metric string) (n int) {
	r.t.Helper()
	for _, line := range r.logs() {
		var said struct {
			AWS *struct {
				CloudWatchMetrics []struct {
					Namespace string
					Metrics   []struct{ Name string }
				}
			} `json:"_aws"`
		}
		if json.Unmarshal(line, &said) != nil || said.AWS == nil {
			continue
		}
		for _, d := range said.AWS.CloudWatchMetrics {
			for _, x := range d.Metrics {
				if d.Namespace == "mobilecred" && x.Name == metric {
					n++
				}
			}
		}
	}
	return n
}

// logs are all lines of all functions.
func (r *run) logs() (lines [][]byte) {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "logs", "*.log"))
	if err != nil || len(files) == 0 {
		r.t.Fatalf("no logs: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			r.t.Fatal(err)
		}
		lines = append(lines, bytes.Split(text, []byte("\n"))...)
	}
	return lines
}

// eventsOf are the events of one credential that left for the portal, by detail type. One that left twice is listed
// twice.
func (r *run) eventsOf(c credential) map[string][]m {
	r.t.Helper()
	found := map[string][]m{}
	for _, e := range r.busEvents() {
		var detail m
		if err := json.Unmarshal(e.Detail, &detail); err != nil {
			r.t.Fatal(err)
		}
		if e.Source == "mobilecred" && detail["credentialId"] == c.ID {
			found[e.DetailType] = append(found[e.DetailType], detail)
		}
	}
	return found
}

// userOf is what the provider's portal shows of the user with an external id.
func (r *run) userOf(externalID string) (id, invitation string) {
	r.t.Helper()
	for _, u := range r.provider().Users {
		if u.ExternalID == externalID && len(u.Invitations) > 0 {
			return u.ID, u.Invitations[len(u.Invitations)-1].ID
		}
	}
	r.t.Fatalf("the provider has no user %s with an invitation", externalID)
	return "", ""
}

// codeAtProvider is the code of a user's newest invitation.
func (r *run) codeAtProvider(externalID string) string {
	r.t.Helper()
	id, _ := r.userOf(externalID)
	var user struct {
		Invitations []struct{ InvitationCode string } `json:"urn:hid:scim:api:ma:2.2:UserInvitation"`
	}
	r.atProvider("GET", "users/"+id, &user)
	if len(user.Invitations) == 0 {
		r.t.Fatalf("user %s has no invitation at the provider", id)
	}
	return user.Invitations[len(user.Invitations)-1].InvitationCode
}

// atProvider makes a call at the provider's own interface, as any of its clients can.
func (r *run) atProvider(method, path string, into any) {
	r.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"1003233-local"},
		"client_secret": {"local-client-secret"}}
	resp, err := client.PostForm(r.at("ORIGO_PORT", "/authentication/customer/1003233/token"), form)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequest(method, r.at("ORIGO_PORT", "/credential-management/customer/1003233/"+path), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {"Bearer " + token.AccessToken}, "Application-Id": {"mobilecred-local"},
		"Application-Version": {"1.0"}}
	if resp, err = client.Do(req); err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		r.t.Fatalf("%s %s at the provider: %s", method, path, resp.Status)
	}
	if into == nil {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		r.t.Fatal(err)
	}
}

// sendCallback sends a callback about an invitation, in the form the provider uses.
func (r *run) sendCallback(userID, invitation, status string) {
	r.t.Helper()
	batch := []m{{
		"specversion": "1.0", "id": "said-" + strconv.FormatInt(time.Now().UnixNano(), 10),
		"type": "com.origo.mi.invitation",
		"source": "https://origo-simulator.invalid/credential-management/customer/1003233/invitation/" +
			invitation,
		"time":            time.Now().UTC().Format(time.RFC3339),
		"datacontenttype": "application/vnd.hidglobal.origo.events.invitation-2.0+json",
		"data":            m{"organization_id": "1003233", "userId": userID, "status": status},
	}}
	r.webhook(batch).want(200)
	r.settle()
}

// webhook sends a callback with the right secret.
func (r *run) webhook(body any, headers ...string) answer {
	r.t.Helper()
	return r.post("/v1/webhooks/"+account, body, append([]string{
		"Authorization", "", "Content-Type", "application/cloudevents-batch+json", webhookHeader, webhookSecret},
		headers...)...)
}

func (r *run) allMails() int {
	r.t.Helper()
	var all []mail
	r.get("/mail").want(200).into(&all)
	return len(all)
}
