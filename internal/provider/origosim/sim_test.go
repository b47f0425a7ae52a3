package origosim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAssignRedeemRevoke(t *testing.T) {
	w := newWorld(t)
	created := w.call(201, "POST", "users", person("ngozi", hq))
	wantShape(t, "create-user-reply.json", created.raw)
	in := w.invited(int64(created.body["id"].(float64)), created)
	w.wantPool("57 58 59 60", "56", "")
	w.wantInvitation(in, "PENDING", hq+":56")

	before := w.getUser(in.user)
	if before.at(t, urn+"Credential", 0, "status") != "ISSUE_INITIATED" ||
		before.body[urn+"CredentialContainer"] != nil {
		t.Errorf("before redemption: %s", before.raw)
	}
	for name := range before.at(t, urn+"UserInvitation", 0).(map[string]any) {
		if strings.Contains(strings.ToLower(name), "credential") {
			t.Errorf("an invitation names its credential, which HID's do not: %s", before.raw)
		}
	}

	w.ok(w.Redeem("phone-a", in.code))
	activated := w.getUser(in.user)
	if id := activated.at(t, urn+"CredentialContainer", 0, "id"); id != "phone-a" {
		t.Errorf("container %v, want the phone's id", id)
	}
	if activated.body[urn+"Credential"] != nil {
		t.Errorf("an issued credential is still shown as reserved: %s", activated.raw)
	}
	w.wantPool("57 58 59 60", "", "56")
	w.wantInvitation(in, "ACKNOWLEDGED", hq+":56")
	phone, _ := json.Marshal(w.Phone("phone-a"))
	want := `{"deviceId":"phone-a","badges":[{"mobileId":"` + hq +
		`:56","holderName":"ngozi Okafor","hasPicture":false,"profile":"HQ H10301 FC42"}]}`
	if string(phone) != want {
		t.Errorf("phone: %s", phone)
	}

	w.call(204, "DELETE", fmt.Sprintf("credential/%d", in.credential), nil)
	w.call(404, "DELETE", fmt.Sprintf("credential/%d", in.credential), nil)
	if w.badges("phone-a") != "" {
		t.Error("a revoked badge is still on the phone")
	}
	w.wantPool("57 58 59 60", "", "")
	equal(t, "events", w.statuses(0), []string{"USER_CREATED", "INVITATION_PENDING", "CREDENTIAL_RESERVED",
		"INVITATION_ACKNOWLEDGED", "ENDPOINT_ACTIVE", "CREDENTIAL_ISSUED", "CREDENTIAL_REVOKED"})
	w.wantInvitation(in, "ACKNOWLEDGED", "")
}

func TestAcceptedOnAPhoneThatFetchesItLaterAndIsRemoved(t *testing.T) {
	w := newWorld(t)
	created := w.call(201, "POST", "users", person("ngozi", hq))
	in := w.invited(int64(created.body["id"].(float64)), created)
	w.ok(w.Accept("phone-a", in.code))
	accepted := w.getUser(in.user)
	if status := accepted.at(t, urn+"CredentialContainer", 0, urn+"Credential", 0,
		"status"); status != "ISSUE_INITIATED" {
		t.Errorf("accepted, but %v", status)
	}
	if w.badges("phone-a") != "" {
		t.Error("the phone has a badge it has not fetched")
	}
	w.wantPool("57 58 59 60", "56", "")
	w.ok(w.Sync("phone-a"))
	w.wantPool("57 58 59 60", "", "56")
	w.ok(w.Remove("phone-a"))
	if removed := w.getUser(in.user); removed.body[urn+"CredentialContainer"] != nil {
		t.Errorf("after removal: %s", removed.raw)
	}
	w.wantPool("57 58 59 60", "", "")
	equal(t, "events", w.statuses(0), []string{"USER_CREATED", "INVITATION_PENDING", "CREDENTIAL_RESERVED",
		"INVITATION_ACKNOWLEDGED", "ENDPOINT_ACTIVE", "CREDENTIAL_ISSUED", "ENDPOINT_INACTIVE"})
}

func TestShapes(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	w.ok(w.Redeem("550017", in.code))
	wantShape(t, "get-user-activated-reply.json", w.getUser(in.user).raw)
	wantShape(t, "part-number-reply.json", w.call(200, "GET", "part-number/41", nil).raw)
	batch, err := json.Marshal(w.st.Queue[1].Events)
	w.ok(err)
	wantShape(t, "redeemed-callback.json", batch)
	wantShape(
		t,
		"token-reply.json",
		w.do(tokenRequest("grant_type=client_credentials&client_id=1003233-OSRV1&client_secret=swordfish")).raw,
	)

	list := w.call(200, "GET", "part-number", nil)
	if list.at(t, urn+"PartNumber", 0, "availableQty") != 4.0 || list.at(t, urn+"PartNumber", 1, "partNumber") != labs {
		t.Errorf("part numbers: %s", list.raw)
	}

	hit := w.call(
		200,
		"POST",
		"users/.search",
		map[string]any{"filter": `emails eq "NGOZI@example.com"`, "startIndex": 1, "count": 5},
	)
	resource := hit.at(t, "Resources", 0).(map[string]any)
	location := fmt.Sprint(hit.at(t, "Resources", 0, "meta", "location"))
	if hit.body["totalResults"] != 1.0 || resource["id"] != nil ||
		!strings.HasSuffix(location, fmt.Sprintf("/users/%d", in.user)) {
		t.Errorf("search: %s", hit.raw)
	}
	miss := w.call(200, "POST", "users/.search", map[string]any{"filter": `emails eq "unknown@example.com"`})
	if miss.body["totalResults"] != 0.0 || miss.body["Resources"] == nil {
		t.Errorf("search: %s", miss.raw)
	}
}

func TestWhatEndsAnInvitationFreesItsMobileID(t *testing.T) {
	for name, end := range map[string]struct {
		do     func(*world, invited)
		status string
		events []string
	}{
		"declined on the phone": {func(w *world, in invited) { w.ok(w.Decline(in.code)) }, "CANCELLED",
			[]string{"INVITATION_CANCEL_INITIATED", "INVITATION_CANCELLED"}},
		"cancelled by an administrator": {func(w *world, in invited) { w.ok(w.Cancel(in.code)) }, "CANCELLED",
			[]string{"INVITATION_CANCEL_INITIATED", "INVITATION_CANCELLED"}},
		"cancelled through the API": {func(w *world,
			in invited) {
			w.call(204, "DELETE", fmt.Sprintf("invitation/%d", in.invitation), nil)
		}, "CANCELLED",
			[]string{"INVITATION_CANCEL_INITIATED", "INVITATION_CANCELLED"}},
		"expired": {func(w *world, in invited) { w.advance(7 * 24 * time.Hour) }, "EXPIRED",
			[]string{"INVITATION_EXPIRED"}},
		"revoked by an administrator": {func(w *world, in invited) { w.ok(w.Revoke(in.mobileID)) }, "PENDING",
			[]string{"CREDENTIAL_REVOKED"}},
		"credential revoked through API": {func(w *world,
			in invited) {
			w.call(204, "DELETE", fmt.Sprintf("credential/%d", in.credential), nil)
		}, "PENDING",
			[]string{"CREDENTIAL_REVOKED"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.assign("ngozi", hq)
			n := len(w.st.Events)
			end.do(w, first)
			equal(t, "events", w.statuses(n), end.events)
			w.wantInvitation(first, end.status, "")
			w.wantPool("56 57 58 59 60", "", "")
			if err := w.Redeem("phone-a", first.code); !errors.Is(err, ErrDead) {
				t.Errorf("redeem: %v, want dead", err)
			}
			if err := w.Decline(first.code); !errors.Is(err, ErrDead) {
				t.Errorf("decline: %v, want dead", err)
			}
			w.token = ""
			if second := w.assign("tomas", hq); second.mobileID != first.mobileID {
				t.Errorf("the next person got %s, want %s again", second.mobileID, first.mobileID)
			}
			if read := w.getUser(first.user); read.body[urn+"Credential"] != nil ||
				len(read.body[urn+"UserInvitation"].([]any)) != 1 {
				t.Errorf("first user: %s", read.raw)
			}
		})
	}
}

func TestExpiryNeedsNoTick(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	w.offset = 7*24*time.Hour - 2*time.Second
	w.token = ""
	if got := w.getUser(in.user).at(t, urn+"UserInvitation", 0, "status"); got != "PENDING" {
		t.Errorf("status %v before the end", got)
	}
	w.offset = 7 * 24 * time.Hour
	w.token = ""
	if got := w.getUser(in.user).at(t, urn+"UserInvitation", 0, "status"); got != "EXPIRED" {
		t.Errorf("status %v after the end", got)
	}
	w.call(409, "DELETE", fmt.Sprintf("invitation/%d", in.invitation), nil)
}

func TestSpentIDsNeverReturn(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	w.ok(w.Redeem("phone-a", in.code))
	w.ok(w.Revoke(in.mobileID))
	if err := w.Revoke(in.mobileID); !errors.Is(err, ErrUnknownMobileID) {
		t.Errorf("revoked twice: %v", err)
	}
	w.wantPool("57 58 59 60", "", "")
	if next := w.assign("tomas", hq); next.mobileID != hq+":57" {
		t.Errorf("next is %s", next.mobileID)
	}
}

func TestEmptyPoolLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	first := w.assign("p0", hq)
	for range 4 {
		w.assignMore(first.user, hq)
	}
	events := len(w.st.Events)
	refused := w.call(400, "POST", "users", person("late", hq))
	if refused.body["scimType"] != "poolExhausted" || refused.body["status"] != "400" || refused.body["message"] == "" {
		t.Errorf("refusal: %s", refused.raw)
	}
	w.call(
		400,
		"POST",
		fmt.Sprintf("users/%d/invitation", first.user),
		map[string]any{urn + "UserAction": invitationFor(hq)},
	)
	if n := len(w.State().Users); n != 1 || len(w.st.Events) != events || len(w.st.Users[0].Invitations) != 5 {
		t.Errorf("%d users, %d new events", n, len(w.st.Events)-events)
	}
	if other := w.assignMore(first.user, labs); other.mobileID != labs+":56" {
		t.Errorf("the other pool gave %s", other.mobileID)
	}
}

func TestRedeem(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	if err := w.Redeem("phone-a", "AAAA-BBBB-CCCC-DDDD"); !errors.Is(err, ErrUnknownCode) {
		t.Errorf("unknown code: %v", err)
	}
	w.ok(w.Redeem("phone-a", " "+strings.ToLower(in.code)+" "))
	for _, phone := range []string{"phone-a", "phone-b"} {
		if err := w.Redeem(phone, in.code); !errors.Is(err, ErrTaken) {
			t.Errorf("again on %s: %v, want taken", phone, err)
		}
	}
	if err := w.Decline(in.code); !errors.Is(err, ErrTaken) {
		t.Errorf("decline after redeeming: %v", err)
	}
	second := w.assignMore(in.user, hq)
	w.ok(w.Redeem("phone-a", second.code))
	if got := w.badges("phone-a"); got != in.mobileID+" "+second.mobileID {
		t.Errorf("phone-a has %q", got)
	}
	if got := w.Phones(); len(got) != 1 {
		t.Errorf("phones: %v", got)
	}
	if got := w.Phone("never-seen"); got.Badges == nil || len(got.Badges) != 0 {
		t.Errorf("a phone that was never used: %+v", got)
	}
}

func TestInvitationWithoutCredential(t *testing.T) {
	w := newWorld(t)
	body := person("ngozi", hq)
	body[urn+"UserAction"].(map[string]any)["assignCredential"] = "N"
	a := w.call(201, "POST", "users", body)
	if a.body[urn+"Credential"] != nil {
		t.Errorf("reply: %s", a.raw)
	}
	w.ok(w.Redeem("phone-a", a.at(t, urn+"UserInvitation", 0, "invitationCode").(string)))
	if w.badges("phone-a") != "" || len(w.Phones()) != 1 {
		t.Error("want a registered phone without badge")
	}
	w.wantPool("56 57 58 59 60", "", "")
}

func TestReassignWhatIsOnNoPhone(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("to a known user %v", known), func(t *testing.T) {
			w := newWorld(t)
			first := w.assign("ngozi", hq)
			if known {
				w.call(201, "POST", "users", person("tomas", ""))
			}
			n := len(w.st.Events)
			w.ok(w.Reassign(first.mobileID, "E-tomas"))

			w.wantInvitation(first, "PENDING", "")
			w.wantPool("57 58 59 60", "56", "")
			if err := w.Redeem("phone-a", first.code); !errors.Is(err, ErrDead) {
				t.Errorf("redeem by the first: %v, want dead", err)
			}
			users := w.State().Users
			second := users[1]
			if len(users) != 2 || second.ExternalID != "E-tomas" || second.Email == "" ||
				*second.Invitations[0].MobileID != first.mobileID {
				t.Fatalf("users: %+v", users)
			}
			want := []string{"INVITATION_PENDING", "CREDENTIAL_RESERVED"}
			if !known {
				want = append([]string{"USER_CREATED"}, want...)
			}
			equal(t, "events", w.statuses(n), want)
			reserved := w.st.Events[len(w.st.Events)-1]
			meta := reserved.Data["metaData"].(map[string]any)
			if reserved.Data["userId"] != second.ID || meta["cardNumber"] != "56" || meta["partNumber"] != hq {
				t.Errorf("reserved: %+v", reserved)
			}
			w.ok(w.Redeem("phone-b", w.st.Users[1].Invitations[0].Code))
			if w.badges("phone-b") != first.mobileID {
				t.Errorf("phone-b has %q", w.badges("phone-b"))
			}
		})
	}
}

func TestReassignWhatIsOnAPhone(t *testing.T) {
	w := newWorld(t)
	first := w.assign("ngozi", hq)
	w.ok(w.Redeem("phone-a", first.code))
	w.ok(w.Reassign(first.mobileID, "E-tomas"))
	w.wantPool("57 58 59 60", "56", "56")
	w.ok(w.Redeem("phone-b", w.st.Users[1].Invitations[0].Code))
	if w.badges("phone-a") != first.mobileID || w.badges("phone-b") != first.mobileID {
		t.Error("both phones should have the mobile ID now")
	}
	w.wantPool("57 58 59 60", "", "56")
	for _, id := range []string{hq + ":55", hq + ":61", hq, "MID-OTHER:56", ""} {
		if err := w.Reassign(id, "E-1"); !errors.Is(err, ErrUnknownMobileID) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestDeleteUser(t *testing.T) {
	w := newWorld(t)
	redeemed := w.assign("ngozi", hq)
	w.ok(w.Redeem("phone-a", redeemed.code))
	waiting := w.assignMore(redeemed.user, hq)
	w.call(204, "DELETE", fmt.Sprintf("users/%d", redeemed.user), nil)
	w.call(404, "GET", fmt.Sprintf("users/%d", redeemed.user), nil)
	w.call(404, "DELETE", fmt.Sprintf("users/%d", redeemed.user), nil)
	w.wantPool("57 58 59 60", "", "")
	if w.badges("phone-a") != "" {
		t.Error("a deleted user's badge is still on the phone")
	}
	if err := w.Redeem("phone-b", waiting.code); !errors.Is(err, ErrDead) {
		t.Errorf("a deleted user's code: %v", err)
	}
	if got := w.statuses(len(w.st.Events) - 2); got[0] != "USER_DELETE_INITIATED" || got[1] != "USER_DELETED" {
		t.Errorf("events: %v", got)
	}
}

func TestChangeUser(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	w.assign("tomas", hq)
	path := fmt.Sprintf("users/%d", in.user)
	changed := w.call(
		200,
		"PUT",
		path,
		map[string]any{
			"name":   map[string]any{"familyName": "Silva"},
			"emails": []any{map[string]any{"value": "n.silva@example.com"}},
		},
	)
	if changed.at(t, "name", "familyName") != "Silva" || changed.at(t, "name", "givenName") != "ngozi" ||
		changed.at(t, "emails", 0, "value") != "n.silva@example.com" {
		t.Errorf("reply: %s", changed.raw)
	}
	refused := w.call(409, "PUT", path, map[string]any{"emails": []any{map[string]any{"value": "Tomas@example.com"}}})
	if refused.body["scimType"] != "uniqueness" {
		t.Errorf("refusal: %s", refused.raw)
	}
	w.call(404, "PUT", "users/1", map[string]any{})
}

func TestPhoto(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	w.ok(w.Redeem("phone-a", in.code))
	var pngBody, jpegBody bytes.Buffer
	w.ok(png.Encode(&pngBody, image.NewGray(image.Rect(0, 0, 4, 4))))
	w.ok(jpeg.Encode(&jpegBody, image.NewGray(image.Rect(0, 0, 4, 4)), nil))
	upload := func(status int, kind string, body []byte) answer {
		t.Helper()
		r := w.request("POST", fmt.Sprintf("users/%d/photo", in.user), body)
		r.Header.Set("Content-Type", mediaType+kind)
		a := w.do(r)
		if a.status != status {
			t.Fatalf("%s: %d, want %d: %s", kind, a.status, status, a.raw)
		}
		return a
	}
	upload(415, "+gif", pngBody.Bytes())
	upload(400, "+jpeg", pngBody.Bytes())
	upload(400, "+png", []byte("no image"))
	upload(201, "+jpeg", jpegBody.Bytes())
	photo := fmt.Sprintf("users/%d/photo/%.0f", in.user, upload(201, "+png", pngBody.Bytes()).body["id"])
	if w.Phone("phone-a").Badges[0].HasPicture {
		t.Error("an unapproved photo shows")
	}
	w.call(400, "PUT", photo+"/status", map[string]any{"status": "MAYBE"})
	w.call(404, "PUT", fmt.Sprintf("users/%d/photo/1/status", in.user), map[string]any{"status": "APPROVE"})
	w.call(200, "PUT", photo+"/status", map[string]any{"status": "APPROVE"})
	if !w.Phone("phone-a").Badges[0].HasPicture {
		t.Error("an approved photo does not show")
	}
	w.call(204, "DELETE", photo, nil)
	w.call(404, "DELETE", photo, nil)
	if w.Phone("phone-a").Badges[0].HasPicture {
		t.Error("a deleted photo shows")
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.assign("ngozi", hq)
	with := func(change func(map[string]any)) map[string]any {
		body := person("tomas", hq)
		change(body)
		return body
	}
	action := func(name, value string) map[string]any {
		return with(func(b map[string]any) { b[urn+"UserAction"].(map[string]any)[name] = value })
	}
	for name, c := range map[string]struct {
		method, path string
		body         any
		status       int
		scimType     any
	}{
		"duplicate e-mail": {"POST", "users", person("ngozi", hq), 409, "uniqueness"},
		"duplicate e-mail, case": {"POST", "users",
			with(func(b map[string]any) { b["emails"] = []any{map[string]any{"value": "NGOZI@EXAMPLE.COM"}} }), 409,
			"uniqueness"},
		"no e-mail": {"POST", "users", with(func(b map[string]any) { delete(b, "emails") }), 400,
			"invalidValue"},
		"no name": {"POST", "users", with(func(b map[string]any) { delete(b, "name") }), 400,
			"invalidValue"},
		"no JSON":                   {"POST", "users", []byte("{"), 400, "invalidSyntax"},
		"unknown part number":       {"POST", "users", action("partNumber", "MID-NONE"), 400, "invalidValue"},
		"a flag that is a word":     {"POST", "users", action("assignCredential", "true"), 400, "invalidValue"},
		"a mail it cannot send":     {"POST", "users", action("sendInvitationEmail", "Y"), 400, "invalidValue"},
		"credential, no invitation": {"POST", "users", action("createInvitationCode", "N"), 400, "invalidValue"},
		"a number that is taken":    {"POST", "users", action("credential", "56"), 400, "poolExhausted"},
		"invitation, no action":     {"POST", "users/103367/invitation", map[string]any{}, 400, "invalidValue"},
		"invitation, unknown user": {"POST", "users/1/invitation",
			map[string]any{urn + "UserAction": invitationFor(hq)}, 404, "notFound"},
		"unknown user":            {"GET", "users/1", nil, 404, "notFound"},
		"an id that is no number": {"GET", "users/abc", nil, 404, "notFound"},
		"unknown invitation":      {"DELETE", "invitation/1", nil, 404, "notFound"},
		"unknown credential":      {"DELETE", "credential/1", nil, 404, "notFound"},
		"unknown part number id":  {"GET", "part-number/1", nil, 404, "notFound"},
		"search by externalId": {"POST", "users/.search", map[string]any{"filter": `externalId eq "E-ngozi"`}, 400,
			"invalidFilter"},
		"search by something else": {"POST", "users/.search", map[string]any{"filter": `emails co "n"`}, 400,
			"invalidFilter"},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.do(w.request(c.method, c.path, c.body))
			if a.status != c.status || a.body["scimType"] != c.scimType || a.body["status"] != fmt.Sprint(c.status) {
				t.Errorf("%d %s, want %d %v", a.status, a.raw, c.status, c.scimType)
			}
		})
	}
	if len(w.State().Users) != 1 {
		t.Error("a refusal left a user behind")
	}
}

func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"no token": {func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		"forged token": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer 99999999999.AAAA") },
			401},
		"no application":         {func(r *http.Request) { r.Header.Del("Application-ID") }, 401},
		"other application":      {func(r *http.Request) { r.Header.Set("Application-ID", "OTHER") }, 401},
		"no application version": {func(r *http.Request) { r.Header.Del("Application-Version") }, 401},
		"a charset": {func(r *http.Request) {
			r.Header.Set("Content-Type", mediaType+
				"+json; charset=utf-8")
		}, 415},
		"plain JSON": {func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 415},
		"another organisation": {func(r *http.Request) { r.URL.Path = "/credential-management/customer/99/users" },
			404},
		"all right": {func(*http.Request) {}, 200},
	} {
		r := w.request("PUT", fmt.Sprintf("users/%d", in.user), map[string]any{})
		c.change(r)
		if strings.HasSuffix(r.URL.Path, "/99/users") {
			r.Method = "POST"
		}
		if a := w.do(r); a.status != c.status {
			t.Errorf("%s: %d, want %d", name, a.status, c.status)
		}
	}
	for form, status := range map[string]int{
		"grant_type=client_credentials&client_id=1003233-OSRV1&client_secret=swordfish": 200,
		"grant_type=client_credentials&client_id=1003233-OSRV1&client_secret=wrong":     401,
		"grant_type=client_credentials&client_id=other&client_secret=swordfish":         401,
		"grant_type=password&client_id=1003233-OSRV1&client_secret=swordfish":           400,
	} {
		if a := w.do(tokenRequest(form)); a.status != status {
			t.Errorf("%s: %d, want %d", form, a.status, status)
		}
	}
	w.restart()
	w.call(200, "GET", "part-number", nil) // the token outlives the process
	w.advance(time.Hour)
	w.call(401, "GET", "part-number", nil)
}

func TestSwitches(t *testing.T) {
	t.Run("cancelling does not free the ID", func(t *testing.T) {
		w := newWorld(t, func(s *Switches) { s.CancelFreesID = false })
		in := w.assign("ngozi", hq)
		w.call(204, "DELETE", fmt.Sprintf("invitation/%d", in.invitation), nil)
		w.wantInvitation(in, "CANCELLED", in.mobileID)
		w.wantPool("57 58 59 60", "56", "")
		w.call(204, "DELETE", fmt.Sprintf("credential/%d", in.credential), nil)
		w.wantPool("56 57 58 59 60", "", "")
	})
	t.Run("cancelling an accepted invitation", func(t *testing.T) {
		for status, on := range map[int]bool{204: true, 409: false} {
			w := newWorld(t, func(s *Switches) { s.CancelAcceptedAnswers2xx = on })
			in := w.assign("ngozi", hq)
			w.ok(w.Redeem("phone-a", in.code))
			w.call(status, "DELETE", fmt.Sprintf("invitation/%d", in.invitation), nil)
			if w.badges("phone-a") != in.mobileID {
				t.Error("the badge is gone")
			}
			w.wantInvitation(in, "ACKNOWLEDGED", in.mobileID)
		}
	})
	t.Run("search by externalId", func(t *testing.T) {
		w := newWorld(t, func(s *Switches) { s.SearchByExternalID = true })
		w.assign("ngozi", hq)
		if a := w.call(200, "POST", "users/.search",
			map[string]any{"filter": `externalId eq "E-ngozi"`}); a.body["totalResults"] != 1.0 {
			t.Errorf("search: %s", a.raw)
		}
	})
	t.Run("one per part number and phone", func(t *testing.T) {
		w := newWorld(t, func(s *Switches) { s.OnePerPartNumberAndPhone = true })
		first := w.assign("ngozi", hq)
		second, other := w.assignMore(first.user, hq), w.assignMore(first.user, labs)
		w.ok(w.Redeem("phone-a", first.code))
		w.ok(w.Redeem("phone-a", other.code))
		if err := w.Redeem("phone-a", second.code); !errors.Is(err, ErrTaken) {
			t.Errorf("second of one part number: %v", err)
		}
		w.wantInvitation(second, "PENDING", second.mobileID)
		w.ok(w.Redeem("phone-b", second.code))
	})
}

func TestFeed(t *testing.T) {
	w := newWorld(t)
	feed := func(query string, status int) answer {
		t.Helper()
		r := w.request("GET", "", nil)
		r.URL.Path, r.URL.RawQuery = "/events", query
		a := w.do(r)
		if a.status != status {
			t.Fatalf("%s: %d, want %d: %s", query, a.status, status, a.raw)
		}
		return a
	}
	in := w.assign("ngozi", hq)
	w.offset = time.Minute
	middle := w.opts.Now().UTC().Format(time.RFC3339Nano)
	w.ok(w.Redeem("phone-a", in.code))
	for query, total := range map[string]float64{"": 6, "dateFrom=" + middle: 3, "dateTo=" + middle: 3, "dateFrom=" +
		middle + "&dateTo=" + middle: 0, "dateFrom=2026-01-01T00:00:00%2B02:00": 6} {
		if got := feed(query, 200).body["totalResults"]; got != total {
			t.Errorf("%q: %v events, want %v", query, got, total)
		}
	}
	page := feed("startIndex=3&count=2", 200)
	if page.body["totalResults"] != 6.0 || page.body["itemsPerPage"] != 2.0 ||
		page.at(t, "Resources", 0, "data", "status") != "CREDENTIAL_RESERVED" {
		t.Errorf("page: %s", page.raw)
	}
	if past := feed("startIndex=99", 200); len(past.body["Resources"].([]any)) != 0 {
		t.Errorf("past the end: %s", past.raw)
	}
	for _, query := range []string{"dateFrom=yesterday", "count=0", "count=x", "startIndex=-1"} {
		feed(query, 400)
	}
}

func TestFeedForgetsTheOldest(t *testing.T) {
	w := newWorld(t)
	id := w.assign("ngozi", hq).user
	err := w.change(func(st *state, now time.Time) error {
		for range feedLength {
			st.emit(now, w.userEvent(st.user(id), "USER_UPDATED"))
		}
		return nil
	})
	w.ok(err)
	if len(w.st.Events) != feedLength || w.st.Events[0].Data["status"] != "USER_UPDATED" {
		t.Errorf("%d events, the first %v", len(w.st.Events), w.st.Events[0].Data["status"])
	}
}

func TestNothingIsLostInACrash(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	w.restart()
	w.wantPool("57 58 59 60", "56", "")
	w.ok(w.Redeem("phone-a", in.code))
	w.restart()
	if w.badges("phone-a") != in.mobileID || len(w.st.Queue) != 2 || len(w.st.Events) != 6 {
		t.Errorf("after a restart: %q, %d callbacks, %d events", w.badges("phone-a"), len(w.st.Queue), len(w.st.Events))
	}
	w.ok(w.Seed(SeedPartNumber{PartNumber: hq, First: 1, Count: 1}))
	w.wantPool("57 58 59 60", "", "56")
	if more := w.assignMore(in.user, hq); more.invitation == in.invitation || more.credential == in.credential {
		t.Error("an id was used again")
	}
}

func TestWhatCannotBeSavedDidNotHappen(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	w.saveErr = errors.New("disk full")
	w.call(500, "POST", "users", person("tomas", hq))
	w.call(500, "DELETE", fmt.Sprintf("invitation/%d", in.invitation), nil)
	if err := w.Redeem("phone-a", in.code); err == nil {
		t.Error("redeemed without saving")
	}
	w.wantInvitation(in, "PENDING", in.mobileID)
	w.wantPool("57 58 59 60", "56", "")
	w.saveErr = nil
	w.ok(w.Redeem("phone-a", in.code))
}

func TestParallelInvitationsGetDifferentIDs(t *testing.T) {
	w := newWorld(t)
	user := w.assign("ngozi", hq).user
	var group sync.WaitGroup
	for range 10 {
		request := w.request(
			"POST",
			fmt.Sprintf("users/%d/invitation", user),
			map[string]any{urn + "UserAction": invitationFor(hq)},
		)
		group.Go(func() { w.do(request) })
	}
	group.Wait()
	w.wantPool("", "56 57 58 59 60", "")
	if n := len(w.State().Users[0].Invitations); n != 5 {
		t.Errorf("%d invitations for 5 mobile IDs", n)
	}
}
