package origosim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (w *world) turn(set func(*Switches)) {
	w.t.Helper()
	w.ok(w.Switch(set))
}

func (w *world) found(attribute, value string) any {
	w.t.Helper()
	return w.call(200, "POST", "users/.search",
		map[string]any{"filter": fmt.Sprintf("%s eq %q", attribute, value)}).body["totalResults"]
}

// listed are the ids of the credentials that a reading of a user shows, reserved ones first.
func (w *world) listed(userID int64) (ids []string) {
	w.t.Helper()
	body := w.getUser(userID).body
	list := func(of map[string]any) {
		credentials, _ := of[urn+"Credential"].([]any)
		for _, c := range credentials {
			ids = append(ids, fmt.Sprintf("%.0f", c.(map[string]any)["id"]))
		}
	}
	list(body)
	containers, _ := body[urn+"CredentialContainer"].([]any)
	for _, k := range containers {
		list(k.(map[string]any))
	}
	return ids
}

func (w *world) want(what string, got, want any) {
	w.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func credentialPath(in invited) string { return fmt.Sprintf("credential/%d", in.credential) }

func TestSettingsByName(t *testing.T) {
	w := newWorld(t)
	w.ok(w.Set([]byte(`{"searchLags": true, "callsPerWindow": 300, "cancelFreesID": false}`)))
	for _, body := range []string{`{"searchlags": true}`, `{"nothing": true}`, `{"searchLags": 1}`, `[]`,
		`{"listLags": true, "callsPerWindow": -1}`, `{"callsPerWindow": true}`, `{"listLags": null}`} {
		if err := w.Set([]byte(body)); !errors.Is(err, ErrSetting) {
			t.Errorf("%s: %v", body, err)
		}
	}
	w.restart(func(s *Switches) { s.OnePerPartNumberAndPhone = true })
	w.want("after a restart", w.Switches(), Switches{SearchLags: true, CallsPerWindow: 300})
	w.restart()
	w.ok(w.Set([]byte(`{"searchLags": false}`)))
	w.want("once more", w.Switches(), Switches{CallsPerWindow: 300})
}

// A tester outside finds the one setting for phones that are away by its name.
func TestOneSettingIsAboutPhonesThatAreAway(t *testing.T) {
	text, err := json.Marshal(Switches{})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`"(\w*(?i:offline|revoking)\w*)"`).FindAllStringSubmatch(string(text), -1)
	if len(names) != 1 || names[0][1] != "offlinePhonesKeepRevoking" {
		t.Errorf("%v", names)
	}
}

func TestSwitchesCanBeTurnedWhileTheSimulatorRuns(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	w.turn(func(s *Switches) { s.CancelFreesID = false })
	w.call(204, "DELETE", fmt.Sprintf("invitation/%d", in.invitation), nil)
	w.wantPool("57 58 59 60", "56", "")
	w.turn(func(s *Switches) { s.CancelFreesID = true })
	second := w.assignMore(in.user, hq)
	w.call(204, "DELETE", fmt.Sprintf("invitation/%d", second.invitation), nil)
	w.wantPool("57 58 59 60", "56", "")
}

func TestASearchLags(t *testing.T) {
	w := newWorld(t, func(s *Switches) { s.SearchLags = true })
	w.assign("ngozi", hq)
	w.want("at once", w.found("emails", "ngozi@example.com"), 0)
	r := w.request("POST", "users/.search", map[string]any{"filter": `emails eq "ngozi@example.com"`})
	w.want("undisturbed", w.do(r.WithContext(Undisturbed(t.Context()))).body["totalResults"], 1)
	w.advance(Lag)
	w.want("after the lag", w.found("emails", "ngozi@example.com"), 1)
}

func TestAListLags(t *testing.T) {
	w := newWorld(t)
	first := w.assign("ngozi", hq)
	w.advance(Lag)
	w.turn(func(s *Switches) { s.ListLags = true })
	second := w.assignMore(first.user, hq)
	w.want("at once", w.listed(first.user), []int64{first.credential})
	w.want("invitations", len(w.getUser(first.user).body[urn+"UserInvitation"].([]any)), 1)
	w.advance(Lag)
	w.want("after the lag", w.listed(first.user), []int64{first.credential, second.credential})
}

func TestAReadingIsPartialOnce(t *testing.T) {
	w := newWorld(t)
	first := w.assign("ngozi", hq)
	second := w.assignMore(first.user, hq)
	w.turn(func(s *Switches) { s.PartialReadOnce = true })
	other := w.assign("tomas", hq)
	r := w.request("GET", fmt.Sprint("users/", first.user), nil)
	if a := w.do(r.WithContext(Undisturbed(t.Context()))); len(a.body[urn+"Credential"].([]any)) != 2 {
		t.Errorf("undisturbed: %s", a.raw)
	}
	w.want("once", w.listed(first.user), []int64{first.credential})
	w.restart()
	w.want("then", w.listed(first.user), []int64{first.credential, second.credential})
	w.want("a user created since", w.listed(other.user), []int64{})
	w.want("then", w.listed(other.user), []int64{other.credential})

	w.ok(w.MakePartial(fmt.Sprint(first.user)))
	w.want("once more", w.listed(first.user), []int64{first.credential})
	if err := w.MakePartial("7"); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("an unknown user: %v", err)
	}
}

func TestTheReferenceChangesOnIssue(t *testing.T) {
	w := newWorld(t, func(s *Switches) { s.NewReferenceOnIssue = true })
	in := w.assign("ngozi", hq)
	w.ok(w.Redeem("phone-a", in.code))
	ids := w.listed(in.user)
	if len(ids) != 1 || ids[0] == fmt.Sprint(in.credential) {
		t.Fatalf("%v, reserved as %d", ids, in.credential)
	}
	issued := w.st.Events[len(w.st.Events)-1]
	w.want("event", fmt.Sprint(issued.Data["status"], issued.Data["mid"]), "CREDENTIAL_ISSUED"+ids[0])
	w.wantInvitation(in, "ACKNOWLEDGED", in.mobileID)
	w.call(404, "DELETE", credentialPath(in), nil)
	w.call(204, "DELETE", "credential/"+ids[0], nil)
	w.check()
}

func TestReservedIsNeverListed(t *testing.T) {
	w := newWorld(t, func(s *Switches) { s.ReservedNeverListed = true })
	in := w.assign("ngozi", hq)
	w.want("reserved", w.listed(in.user), []int64{})
	w.ok(w.Accept("phone-a", in.code))
	w.want("accepted", w.listed(in.user), []int64{})
	w.ok(w.Sync("phone-a"))
	w.want("issued", w.listed(in.user), []int64{in.credential})
}

func TestATimedOutRequestIsExecutedLater(t *testing.T) {
	for name, tt := range map[string]struct {
		on    bool
		fault Fault
		after time.Duration // 0: never
	}{
		"the fault late":                  {false, Fault{Kind: "late", Hold: time.Minute}, time.Minute},
		"the fault late without a time":   {false, Fault{Kind: "late"}, LateAfter},
		"a timeout with the switch on":    {true, Fault{Kind: "timeout", Hold: time.Millisecond}, LateAfter},
		"a timeout with the switch off":   {false, Fault{Kind: "timeout", Hold: time.Millisecond}, 0},
		"an error, whatever the position": {true, Fault{Kind: "error"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(s *Switches) { s.LateExecution = tt.on })
			w.plan("reserve", tt.fault)
			ctx, giveUp := context.WithCancel(t.Context())
			w.opts.Changed = giveUp // once the request is kept
			r := w.request("POST", "users", person("ngozi", hq)).WithContext(ctx)
			func() {
				defer func() { _ = recover() }() // the connection is cut
				w.Handler().ServeHTTP(httptest.NewRecorder(), r)
			}()
			w.want("before", len(w.State().Users), 0)
			w.restart()
			w.advance(max(tt.after, time.Second) - time.Second)
			w.want("shortly before", len(w.State().Users), 0)
			w.advance(time.Hour)
			w.want("afterwards", len(w.State().Users), map[bool]int{true: 1, false: 0}[tt.after > 0])
			w.advance(time.Hour)
			w.restart()
			w.want("invitations in the end", len(w.st.invitations), map[bool]int{true: 1, false: 0}[tt.after > 0])
		})
	}
}

func TestALateRequestNeedsNoTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() { w.Run(ctx); close(stopped) }()
		w.plan("reserve", Fault{Kind: "late", Hold: time.Minute})
		short, giveUp := context.WithTimeout(t.Context(), time.Second)
		defer giveUp()
		func() {
			defer func() { _ = recover() }()
			w.Handler().ServeHTTP(httptest.NewRecorder(), w.request("POST", "users", person("ngozi", hq)).WithContext(short))
		}()
		w.want("settled", w.Settled(), true)
		pass(time.Minute)
		w.want("users", len(w.State().Users), 1)
		cancel()
		<-stopped
	})
}

func TestOneUserIsUnwell(t *testing.T) {
	for how, want := range map[string]struct {
		status  int
		body    string
		happens bool
	}{
		Error:     {500, `"status":"500"`, false},
		Malformed: {200, `{"schemas": [], "id": `, true},
		Missing:   {404, "404 page not found\n", false},
	} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			in, other := w.assign("ngozi", hq), w.assign("tomas", hq)
			w.ok(w.MakeUnwell(fmt.Sprint(in.user), how))
			w.restart()
			path := fmt.Sprint("users/", in.user)
			for range 3 {
				if a := w.call(want.status, "GET", path, nil); !strings.Contains(string(a.raw), want.body) {
					t.Errorf("read: %q", a.raw)
				}
			}
			w.getUser(other.user)
			a := w.do(w.request("DELETE", credentialPath(in), nil))
			if gone := w.st.credentials[in.credential] == nil; gone != want.happens || (a.status == 204) != want.happens {
				t.Errorf("revoke: %d, gone %v", a.status, gone)
			}
			w.call(204, "DELETE", credentialPath(other), nil)
			w.ok(w.MakeUnwell(fmt.Sprint(in.user), ""))
			w.getUser(in.user)
		})
	}
	if err := newWorld(t).MakeUnwell("7", Error); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("an unknown user: %v", err)
	}
}

func TestFaultsAimedAtOneHolder(t *testing.T) {
	w := newWorld(t)
	in, other := w.assign("ngozi", hq), w.assign("tomas", hq)
	path, theirs := fmt.Sprint("users/", in.user), fmt.Sprint("users/", other.user)
	for _, c := range []struct{ op, method, path, theirs string }{
		{"read", "GET", path, theirs},
		{"update", "PUT", path, theirs},
		{"reserve", "POST", path + "/invitation", theirs + "/invitation"},
		{"photo", "POST", path + "/photo", theirs + "/photo"},
		{"cancel", "DELETE", fmt.Sprint("invitation/", in.invitation), fmt.Sprint("invitation/", other.invitation)},
		{"revoke", "DELETE", credentialPath(in), "credential/1"},
		{"revoke", "DELETE", path, theirs},
	} {
		w.plan(c.op+" E-ngozi", Fault{Kind: "throttle"})
		if a := w.do(w.request(c.method, c.theirs, map[string]any{})); a.status == 403 {
			t.Errorf("%s %s met the fault of another holder", c.method, c.theirs)
		}
		w.call(403, c.method, c.path, map[string]any{})
	}
	w.plan("reserve E-ada", Fault{Kind: "error"})
	w.call(500, "POST", "users", person("ada", hq))
	w.plan("revoke", Fault{Kind: "forbidden"})
	if a := w.call(403, "DELETE", path, nil); strings.Contains(string(a.raw), "limit") {
		t.Errorf("forbidden: %s", a.raw)
	}
	w.plan("read", Fault{Kind: "slow", Hold: time.Millisecond})
	w.getUser(in.user)
}

func TestCallbacksAboutOneHolderAreDropped(t *testing.T) {
	runs(t, func(t *testing.T, w *world) {
		w.plan("callback E-ngozi", Fault{Kind: "drop"})
		w.plan("callback E-tomas", Fault{Kind: "slow", Hold: time.Second})
		w.assign("ngozi", hq)
		w.assign("tomas", hq)
		delivered := func() (names string) {
			w.around.Lock()
			defer w.around.Unlock()
			for _, b := range w.delivered {
				names += fmt.Sprint(b[0].Data["firstName"])
			}
			return names
		}
		synctest.Wait()
		w.want("at once", delivered(), "")
		pass(2 * time.Second)
		w.want("then", delivered(), "tomas")
	})
}

func TestOneCredentialIsForbidden(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	other := w.assignMore(in.user, hq)
	w.ok(w.Forbid(in.mobileID, true))
	w.restart()
	w.call(403, "DELETE", credentialPath(in), nil)
	w.call(403, "DELETE", fmt.Sprint("invitation/", in.invitation), nil)
	w.call(204, "DELETE", fmt.Sprint("invitation/", other.invitation), nil)
	w.ok(w.Forbid(in.mobileID, false))
	w.call(204, "DELETE", credentialPath(in), nil)
	if err := w.Forbid(in.mobileID, true); !errors.Is(err, ErrUnknownMobileID) {
		t.Errorf("an unknown mobile ID: %v", err)
	}
}

func TestStrangers(t *testing.T) {
	runs(t, func(t *testing.T, w *world) {
		if err := w.StirStrangers(1); !errors.Is(err, ErrUnknownUser) {
			t.Errorf("without strangers: %v", err)
		}
		w.assign("ngozi", hq)
		ids, err := w.AddStrangers(2000)
		w.ok(err)
		w.want("strangers", len(ids), 2000)
		w.want("events before they stir", len(w.st.Events), 3)
		w.ok(w.StirStrangers(5000))
		synctest.Wait()
		w.want("events", len(w.st.Events), 5003)
		w.want("callbacks", len(w.delivered), 1+5000/stirBatch)
		kinds := map[any]int{}
		for _, e := range w.st.Events[3:] {
			kinds[e.Data["status"]]++
		}
		w.want("kinds", kinds, map[any]int{"USER_UPDATED": 2000, "CREDENTIAL_RESERVED": 2000, "CREDENTIAL_ISSUED": 1000})
		w.call(200, "GET", "users/"+ids[1999], nil)
		w.wantPool("57 58 59 60", "56", "")
		w.restart()
		w.want("users", len(w.State().Users), 2001)
	})
}

func TestAnAdministratorReservesByHand(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	n := len(w.st.Events)
	mobileID, err := w.ReserveByHand("E-ngozi", hq)
	w.ok(err)
	w.want("mobile ID", mobileID, hq+":57")
	equal(t, "events", w.statuses(n), []string{"INVITATION_PENDING", "CREDENTIAL_RESERVED"})
	w.want("credentials", len(w.listed(in.user)), 2)
	if _, err := w.ReserveByHand("E-unknown", hq); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("an unknown user: %v", err)
	}
	if _, err := w.ReserveByHand("E-ngozi", "MID-NONE"); !errors.Is(err, ErrNoneLeft) {
		t.Errorf("an unknown part number: %v", err)
	}
}

func TestAHolderOfAnotherSystem(t *testing.T) {
	w := newWorld(t)
	mobileID, err := w.AddExisting(Existing{ExternalID: "OTHER-1", Email: "ngozi@example.com", Phone: "phone-a",
		PartNumber: hq})
	w.ok(err)
	w.want("badge", w.badges("phone-a"), mobileID)
	w.want("events", len(w.st.Events), 0)
	w.wantPool("57 58 59 60", "", "56")
	w.call(409, "POST", "users", person("ngozi", hq))
	_, err = w.AddExisting(Existing{ExternalID: "E-tomas", Email: "tomas@example.com"})
	w.ok(err)
	w.want("users", len(w.State().Users), 2)
	w.check()
}

func TestTheLimitsOfAnAddress(t *testing.T) {
	w := newWorld(t, func(s *Switches) { s.CallsPerWindow, s.FeedCallsPerWindow, s.TokenCallsPerWindow = 3, 2, 1 })
	events := func() int {
		r := w.request("GET", "", nil)
		r.URL.Path = "/events"
		return w.do(r).status
	}
	for range 3 {
		w.call(200, "GET", "part-number", nil)
	}
	if a := w.call(403, "GET", "part-number", nil); a.body["message"] != "the rate limit is exceeded" {
		t.Errorf("refusal: %s", a.raw)
	}
	r := w.request("GET", "part-number", nil)
	w.want("undisturbed", w.do(r.WithContext(Undisturbed(t.Context()))).status, 200)
	w.want("feed", fmt.Sprint(events(), events(), events()), "200 200 403")
	w.want("token", w.do(tokenRequest("grant_type=client_credentials")).status, 403)
	w.advance(Window - time.Second)
	w.call(403, "GET", "part-number", nil)
	w.advance(time.Second)
	w.call(200, "GET", "part-number", nil)
	w.turn(func(s *Switches) { s.CallsPerWindow = 0 })
	for range 5 {
		w.call(200, "GET", "part-number", nil)
	}
}

func TestAccountsThatAreCalledFromOneAddressShareItsLimit(t *testing.T) {
	limited := func(s *Switches) { s.CallsPerWindow = 1 }
	w, other := newWorld(t, limited), newWorld(t, limited)
	other.opts.Address = w.opts.Address
	w.call(200, "GET", "part-number", nil)
	other.call(403, "GET", "part-number", nil)
}

func TestASecondRevoke(t *testing.T) {
	w := newWorld(t)
	first := w.assign("ngozi", hq)
	w.call(204, "DELETE", credentialPath(first), nil)
	w.turn(func(s *Switches) { s.SecondRevoke412 = true })
	w.call(404, "DELETE", credentialPath(first), nil)
	second := w.assignMore(first.user, hq)
	w.call(204, "DELETE", credentialPath(second), nil)
	w.restart()
	w.call(412, "DELETE", credentialPath(second), nil)
	w.call(404, "DELETE", "credential/1", nil)
	w.turn(func(s *Switches) { s.SecondRevoke412 = false })
	w.call(404, "DELETE", credentialPath(second), nil)
}

func TestAPhoneThatIsAwayKeepsWhatIsRevoked(t *testing.T) {
	for name, back := range map[string]func(*world){
		"until it is turned off": func(w *world) { w.turn(func(s *Switches) { s.OfflinePhonesKeepRevoking = false }) },
		"until it synchronises":  func(w *world) { w.ok(w.Sync("phone-a")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(s *Switches) { s.OfflinePhonesKeepRevoking = true })
			in := w.assign("ngozi", hq)
			reserved := w.assignMore(in.user, hq)
			w.ok(w.Redeem("phone-a", in.code))
			n := len(w.st.Events)
			w.call(204, "DELETE", credentialPath(in), nil)
			w.call(204, "DELETE", credentialPath(in), nil)
			w.turn(func(s *Switches) { s.SecondRevoke412 = true })
			w.call(412, "DELETE", credentialPath(in), nil)
			w.advance(50 * time.Hour)
			w.restart()
			w.token = ""
			w.want("on the phone", w.badges("phone-a"), in.mobileID)
			status := w.getUser(in.user).at(t, urn+"CredentialContainer", 0, urn+"Credential", 0, "status")
			w.want("status", status, "REVOKING")
			w.call(204, "DELETE", credentialPath(reserved), nil)
			back(w)
			w.want("at last", w.badges("phone-a"), "")
			w.want("listed", w.listed(in.user), []int64{})
			equal(t, "events", w.statuses(n), []string{"CREDENTIAL_REVOKING", "CREDENTIAL_REVOKED", "CREDENTIAL_REVOKED"})
		})
	}
}

func TestTheAppIsInstalledAnew(t *testing.T) {
	for phone, want := range map[string][]string{"phone-a": {"phone-a_2", "phone-a_3"}, "550017": {"1550017", "2550017"}} {
		w := newWorld(t, func(s *Switches) { s.OnePerPartNumberAndPhone = true })
		in := w.assign("ngozi", hq)
		again := w.assignMore(in.user, hq)
		w.ok(w.Redeem(phone, in.code))
		model := w.getUser(in.user).at(t, urn+"CredentialContainer", 0, "model")
		n := len(w.st.Events)
		fresh, err := w.Reinstall(phone)
		w.ok(err)
		w.restart()
		w.want("new container", fresh, want[0])
		equal(t, "events", w.statuses(n), []string{"ENDPOINT_INACTIVE", "ENDPOINT_ACTIVE"})
		w.want("on the phone", w.badges(phone), "")
		w.ok(w.Redeem(phone, again.code))
		w.want("on the phone", w.badges(phone), again.mobileID)
		w.want("phones", len(w.Phones()), 1)
		user := w.getUser(in.user)
		var seen []string
		for i := range 2 {
			at := func(member string) any { return user.at(t, urn+"CredentialContainer", i, member) }
			if at("model") != model {
				t.Errorf("%v, was %v", at("model"), model)
			}
			id := at("id")
			if number, ok := id.(float64); ok {
				id = int64(number)
			}
			seen = append(seen, fmt.Sprint(id, at("status"), user.at(t, urn+"CredentialContainer", i, urn+"Credential", 0,
				"cardNumber")))
		}
		w.want("containers", seen, []string{phone + "INACTIVE56", fresh + "ACTIVE57"})
		w.ok(w.Remove(phone))
		w.want("without the old one", len(w.getUser(in.user).body[urn+"CredentialContainer"].([]any)), 1)
		w.want("on the phone", w.badges(phone), again.mobileID)
		third, err := w.Reinstall(phone)
		w.ok(err)
		w.want("third container", third, want[1])
		w.check()
	}
}

func TestATakenEmailMakesASecondUser(t *testing.T) {
	w := newWorld(t, func(s *Switches) { s.TakenEmailMakesSecondUser = true })
	w.assign("ngozi", hq)
	w.call(201, "POST", "users", person("ngozi", hq))
	w.want("found", w.found("emails", "ngozi@example.com"), 2)
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func TestIDsAreGUIDs(t *testing.T) {
	w := newWorld(t)
	old := w.assign("tomas", hq)
	w.turn(func(s *Switches) { s.GUIDs = true })
	a := w.call(201, "POST", "users", person("ngozi", hq))
	user := fmt.Sprint(a.at(t, "id"))
	invitation := fmt.Sprint(a.at(t, urn+"UserInvitation", 0, "id"))
	credential := fmt.Sprint(a.at(t, urn+"Credential", 0, "id"))
	event := w.st.Events[len(w.st.Events)-1]
	hit := w.call(200, "POST", "users/.search", map[string]any{"filter": `emails eq "ngozi@example.com"`})
	for name, id := range map[string]any{"user": user, "invitation": invitation, "credential": credential,
		"event's user": event.Data["userId"], "administrator's view": w.State().Users[1].ID,
		"event's source": event.Source[strings.LastIndex(event.Source, "/")+1:],
		"search":         fmt.Sprint(hit.at(t, "Resources", 0, "meta", "location"))[len(w.location("users", "")):]} {
		if !guid.MatchString(fmt.Sprint(id)) {
			t.Errorf("%s: %v", name, id)
		}
	}
	w.call(200, "GET", "users/"+user, nil)
	w.call(204, "DELETE", "invitation/"+invitation, nil)
	w.call(404, "DELETE", "credential/"+credential, nil)
	w.call(404, "GET", "users/"+strings.Replace(user, "-", "", 1), nil)
	w.turn(func(s *Switches) { s.GUIDs = false })
	w.want("id", fmt.Sprint(w.call(200, "GET", "users/"+user, nil).at(t, "id")), user)
	w.getUser(old.user)
}

func TestErrorsWithDetailOnly(t *testing.T) {
	w := newWorld(t, func(s *Switches) { s.DetailErrors = true })
	a := w.call(404, "GET", "users/1", nil)
	if a.body["detail"] != "user not found" || a.body["message"] != nil || a.body["scimType"] != "notFound" {
		t.Errorf("%s", a.raw)
	}
}

func TestEventsThatEndNothing(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	if err := w.Unbind(in.mobileID); !errors.Is(err, ErrUnknownMobileID) {
		t.Errorf("on no phone: %v", err)
	}
	w.ok(w.Accept("phone-a", in.code))
	n := len(w.st.Events)
	w.ok(w.FailIssue("phone-a"))
	w.want("badges", w.badges("phone-a"), "")
	w.ok(w.Sync("phone-a"))
	w.ok(w.FailIssue("phone-a"))
	w.ok(w.Unbind(in.mobileID))
	w.want("badges", w.badges("phone-a"), "")
	w.want("listed", w.listed(in.user), []int64{})
	equal(t, "events", w.statuses(n), []string{"CREDENTIAL_CREATION_FAILURE", "CREDENTIAL_ISSUED", "CREDENTIAL_UNBOUND"})
	w.wantPool("57 58 59 60", "", "")
}

// Every change of the new kinds is in the journal.
func TestTheWeatherOutlivesTheProcess(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	w.ok(w.Redeem("phone-a", in.code))
	_, err := w.AddStrangers(3)
	w.ok(err)
	w.turn(func(s *Switches) { s.SecondRevoke412, s.OfflinePhonesKeepRevoking = true, true })
	w.call(204, "DELETE", credentialPath(w.assignMore(in.user, hq)), nil)
	w.ok(w.Forbid(in.mobileID, true))
	_, err = w.Reinstall("phone-a")
	w.ok(err)
	w.ok(w.delay(call{w.request("PUT", "users/1", map[string]any{}), []byte("{}")}, Fault{}))
	before := w.whole()
	lines := slices.Clone(w.disk)
	w.restart()
	w.want("state", w.whole(), before)
	w.disk = lines
	w.restart()
	w.want("state, from the changes one by one", w.whole(), before)
	if !strings.Contains(before, http.MethodPut) {
		t.Error("the late request is not kept")
	}
}
