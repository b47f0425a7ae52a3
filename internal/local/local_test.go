package local_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/local"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
)

// TestMain lets the test binary play a whole run that is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv("LOCAL_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	err := local.Run(context.Background(), config(dir), func(at local.Addresses) {
		_ = json.NewEncoder(os.Stdout).Encode(at)
	})
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func config(dir string) local.Config {
	return local.Config{
		Root: "../samlocal/testdata/toy",
		Dir:  dir,
		Out:  io.Discard,
		Seed: func(_ context.Context, s *local.Seeder) error {
			return s.Provider.Seed(
				origosim.SeedPartNumber{
					PartNumber:   "MID-TOY",
					FriendlyName: "Toy",
					Format:       "H10301",
					FacilityCode: "1",
					First:        1,
					Count:        3,
				},
			)
		},
	}
}

// run is one run of the toy template in this process.
type run struct {
	local.Addresses
	t    *testing.T
	stop func()
}

func start(t *testing.T, cfg local.Config) *run {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan local.Addresses, 1)
	go func() { ended <- local.Run(ctx, cfg, func(at local.Addresses) { ready <- at }) }()
	r := &run{t: t}
	select {
	case r.Addresses = <-ready:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// call makes a request and decodes a JSON answer into out, if given.
func (r *run) call(method, url, body string, out any) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("X-Webhook-Secret", "local-webhook-secret")
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(url, r.API) {
		req.Header.Set("Authorization", "Bearer "+r.token())
	}
	text, status := r.send(req)
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			r.t.Fatalf("%s %s: %s: %v", method, url, text, err)
		}
	}
	return status, string(text)
}

func (r *run) token() string {
	resp, err := http.Get(r.World + "/token")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	token, _ := io.ReadAll(resp.Body)
	return string(token)
}

func (r *run) want(method, url, body string, status int, part string) {
	r.t.Helper()
	if got, text := r.call(method, url, body, nil); got != status || !strings.Contains(text, part) {
		r.t.Errorf("%s %s: got %d %.300s, want %d with %q", method, url, got, text, status, part)
	}
}

func TestTheWorldsJSON(t *testing.T) {
	r := start(t, config(t.TempDir()))
	for _, tt := range []struct {
		method, path, body string
		status             int
		part               string
	}{
		{"GET", "/", "", 200, "<html"},
		{"GET", "/.well-known/jwks.json", "", 200, `"kty":"RSA"`},
		{"GET", "/phones/p1", "", 200, `{"deviceId":"p1","badges":[]}`},
		{"POST", "/phones/p1/redeem", `{"code":"AAAA-BBBB-CCCC-DDDD"}`, 404, "error"},
		{"POST", "/phones/p1/drop", `{"code":"x"}`, 404, "error"},
		{"GET", "/provider", "", 200, `"available":["MID-TOY:1","MID-TOY:2","MID-TOY:3"]`},
		{"POST", "/provider/reassign", `{"mobileId":"MID-TOY:2","externalId":"E-2"}`, 200, `"reserved":["MID-TOY:2"]`},
		{"POST", "/provider/reassign", `{"mobileId":"MID-TOY:9","externalId":"E-2"}`, 404, "error"},
		{"POST", "/provider/reassign", `{"mobileId":"MID-TOY:1"}`, 400, "externalId"},
		{"POST", "/provider/revoke", `{"mobileId":"MID-TOY:2"}`, 200, `"reserved":[]`},
		{"POST", "/provider/cancel", `{"code":"x"}`, 404, "error"},
		{"POST", "/faults", `{"service":"moon","kind":"error"}`, 400, "service must be"},
		{"POST", "/faults", `{"service":"ses","kind":"error","holdMs":5}`, 200, `"count":1`},
		{"GET", "/faults", "", 200, `[{"service":"ses"`},
		{"GET", "/deadletters", "", 200, "[]"},
		{"GET", "/mail/000000000009", "", 404, ""},
		{"GET", "/overview", "", 200, `"deadletters":0`},
		{"GET", "/nothing", "", 404, ""},
	} {
		r.want(tt.method, r.World+tt.path, tt.body, tt.status, tt.part)
	}
	for path, want := range map[string]int{"/token": 404, "/token?scope=other": 403, "/token?scope=": 403} {
		_, token := r.call("GET", r.World+path, "", nil)
		req, _ := http.NewRequest("GET", r.API+"/things/x", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// code is the code of the newest invitation of a user at the provider of an account.
func (r *run) code(port, path, organization, user string) string {
	r.t.Helper()
	token, _ := r.origo("POST", port+path+"/authentication/customer/"+organization+"/token", "")
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(token), &answer); err != nil {
		r.t.Fatal(err)
	}
	text, _ := r.origo("GET", port+path+"/credential-management/customer/"+organization+"/users/"+user,
		answer.AccessToken)
	var read struct {
		Invitations []struct{ InvitationCode string } `json:"urn:hid:scim:api:ma:2.2:UserInvitation"`
	}
	if err := json.Unmarshal([]byte(text), &read); err != nil || len(read.Invitations) == 0 {
		r.t.Fatalf("%s: %v", text, err)
	}
	return read.Invitations[len(read.Invitations)-1].InvitationCode
}

// origo makes a request to the provider; without a token it asks for one.
func (r *run) origo(method, url, token string) (body string, status int) {
	r.t.Helper()
	form := ""
	if token == "" {
		_, organization, _ := strings.Cut(url, "/customer/")
		organization, _, _ = strings.Cut(organization, "/")
		form = "grant_type=client_credentials&client_secret=local-client-secret&client_id=" + organization + "-local"
	}
	req, err := http.NewRequest(method, url, strings.NewReader(form))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Application-ID", "mobilecred-local")
	req.Header.Set("Application-Version", "1.0")
	text, status := r.send(req)
	return string(text), status
}

// send sends a request and returns the answer.
func (r *run) send(req *http.Request) (text []byte, status int) {
	r.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err != nil {
		r.t.Fatal(err)
	}
	return text, resp.StatusCode
}

func TestTheWeatherOfTheProviderFromOutside(t *testing.T) {
	dir := t.TempDir()
	r := start(t, config(dir))
	for _, tt := range []struct {
		method, path, body string
		status             int
		part               string
	}{
		{"GET", "/provider/settings", "", 200, `"onePerPartNumberAndPhone":true,"searchLags":false`},
		{"POST", "/provider/settings", `{"offlinePhonesKeepRevoking": true, "callsPerWindow": 300}`, 200,
			`"offlinePhonesKeepRevoking":true`},
		{"POST", "/provider/settings", `{"sunshine": true}`, 422, `unknown setting \"sunshine\"; there are: callsPerWindow`},
		{"POST", "/provider/settings", `{"guidIDs": "yes"}`, 422, "guidIDs must be true or false"},
		{"POST", "/provider/settings?account=globex", `{"guidIDs": true}`, 404, "ACCOUNTS"},
		{"POST", "/provider/existing", `{"externalId":"OTHER-1","email":"ada@example.com","partNumber":"MID-TOY",` +
			`"deviceId":"p1"}`, 200, `"issued":["MID-TOY:1"]`},
		{"POST", "/provider/existing", `{"externalId":"OTHER-1"}`, 400, "email is needed"},
		{"POST", "/provider/reserve", `{"externalId":"OTHER-1","partNumber":"MID-TOY"}`, 200, `"reserved":["MID-TOY:2"]`},
		{"POST", "/provider/reserve", `{"externalId":"E-9","partNumber":"MID-TOY"}`, 404, "no such user"},
		{"POST", "/provider/reserve", `{"externalId":"OTHER-1","partNumber":"MID-NONE"}`, 409, "no mobile ID is left"},
		{"POST", "/provider/forbid", `{"mobileId":"MID-TOY:1","forbidden":true}`, 200, ""},
		{"POST", "/provider/revoke", `{"mobileId":"MID-TOY:1"}`, 200, `"issued":["MID-TOY:1"]`},
		{"GET", "/phones/p1", "", 200, "MID-TOY:1"},
		{"POST", "/provider/settings", `{"offlinePhonesKeepRevoking": false}`, 200, ""},
		{"GET", "/phones/p1", "", 200, `"badges":[]`},
		{"POST", "/phones/p1/reinstall", `{}`, 200, `"deviceId":"p1_2"`},
		{"POST", "/provider/unbind", `{"mobileId":"MID-TOY:2"}`, 404, "error"},
		{"POST", "/provider/strangers", `{"users":40,"events":100}`, 200, "STRANGER-40"},
		{"POST", "/provider/strangers", `{"users":-1}`, 400, "numbers up to"},
		{"POST", "/faults", `{"service":"origo","op":"read","kind":"missing","holder":"E-1","count":1000000}`, 200,
			`"holder":"E-1"`},
		{"POST", "/faults", `{"service":"origo","kind":"late","holdMs":600000,"account":"acme-origo"}`, 200, `"late"`},
		{"POST", "/faults", `{"service":"origo","kind":"reject"}`, 400, "kind must be"},
		{"POST", "/faults", `{"service":"ses","kind":"reject","count":1000000,"address":"ada@example.com"}`, 200, ""},
		{"POST", "/faults", `{"service":"ses","kind":"reject","holder":"E-1"}`, 400, "cannot name the holder"},
		{"DELETE", "/faults", "", 200, "[]"},
		{"POST", "/settle", "", 200, `"settled":true`},
	} {
		r.want(tt.method, r.World+tt.path, tt.body, tt.status, tt.part)
	}
	code := r.code(r.Provider, "", "1003233", "103367")
	r.want("POST", r.World+"/phones/p1/redeem", `{"code":"`+code+`"}`, 200, "MID-TOY:2")
	r.want("POST", r.World+"/provider/reserve", `{"externalId":"OTHER-1","partNumber":"MID-TOY"}`, 200, "")
	code = r.code(r.Provider, "", "1003233", "103367")
	r.want("POST", r.World+"/phones/p1/redeem", `{"code":"`+code+`"}`, 412, "already delivered")
	r.want("POST", r.World+"/provider/unbind", `{"mobileId":"MID-TOY:2"}`, 200, `"issued":[]`)
	r.want("POST", r.World+"/phones/p1/accept", `{"code":"`+code+`"}`, 200, `"badges":[]`)
	r.want("POST", r.World+"/phones/p1/fail", `{}`, 200, `"badges":[]`)
	r.want("POST", r.World+"/phones/p1/sync", `{}`, 200, "MID-TOY:3")

	r.stop()
	r = start(t, config(dir))
	r.want("GET", r.World+"/provider/settings", "", 200, `"callsPerWindow":300`)
	r.want("GET", r.World+"/provider", "", 200, "STRANGER-40")
}

func TestFurtherAccountsHaveProvidersOfTheirOwn(t *testing.T) {
	cfg := config(t.TempDir())
	var err error
	if cfg.Accounts, err = local.ParseAccounts(" globex-origo, acme-origo,initech"); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	if got := local.Parameters(cfg.Accounts...)["Accounts"]; got != "acme-origo,globex-origo,initech" {
		t.Errorf("parameter Accounts: %q", got)
	}
	r.want("GET", r.World+"/provider?account=globex-origo", "", 200, `"MID-SUB-CRD_FTPN_2001"`)
	r.want("GET", r.World+"/provider?account=initech", "", 200, `"MID-SUB-CRD_FTPN_3002"`)
	r.want("GET", r.World+"/provider", "", 200, `"MID-TOY"`)
	r.want("POST", r.World+"/provider/settings?account=globex-origo", `{"cancelFreesID":false}`, 200, "")
	r.want("GET", r.World+"/provider/settings", "", 200, `"cancelFreesID":true`)
	r.want("POST", r.World+"/provider/settings", `{"secondRevoke412":true}`, 200, "")
	r.want("GET", r.World+"/provider/settings?account=globex-origo", "", 200, `"secondRevoke412":true`)

	for i, part := range []string{"MID-SUB-CRD_FTPN_2001", "MID-SUB-CRD_FTPN_3001"} {
		account, organization := cfg.Accounts[i], fmt.Sprint(1003234+i)
		r.want("POST", r.World+"/provider/existing?account="+account,
			`{"externalId":"E-1","email":"ada@example.com"}`, 200, "")
		r.want("POST", r.World+"/provider/reserve?account="+account, `{"externalId":"E-1","partNumber":"`+part+`"}`, 200, "")
		code := r.code(r.Provider, "/"+account, organization, "103367")
		r.want("POST", r.World+"/phones/p1/redeem", `{"code":"`+code+`"}`, 200, part+":1")
	}
	r.want("GET", r.World+"/phones", "", 200, `"MID-SUB-CRD_FTPN_2001:1"`)
	r.want("POST", r.World+"/settle", "", 200, `"settled":true`)

	// A fault for one account is met by its calls only.
	r.want("POST", r.World+"/faults",
		`{"service":"origo","op":"token","kind":"throttle","account":"globex-origo","count":9}`, 200, "")
	if _, status := r.origo("POST", r.Provider+"/authentication/customer/1003233/token", ""); status != 200 {
		t.Errorf("the first account's token: %d", status)
	}
	if _, status := r.origo("POST", r.Provider+"/globex-origo/authentication/customer/1003234/token", ""); status != 403 {
		t.Errorf("the other account's token: %d", status)
	}
	for list, want := range map[string]string{"Globex": "small letters", "a,b,a": "named twice", "a b": "small letters"} {
		if _, err := local.ParseAccounts(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

func TestNothingIsLostWhenTheRunIsKilled(t *testing.T) {
	dir := t.TempDir()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), "LOCAL_TEST_DIR="+dir)
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	victim.Stderr = os.Stderr
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	r := &run{t: t}
	if err := json.NewDecoder(out).Decode(&r.Addresses); err != nil {
		t.Fatal(err)
	}

	// A second run on the same directory does not start.
	err = local.Run(t.Context(), config(dir), func(local.Addresses) { t.Error("a second run is ready") })
	if err == nil || !strings.Contains(err.Error(), "in use by another run") {
		t.Errorf("got %v", err)
	}

	r.want("POST", r.World+"/provider/reassign", `{"mobileId":"MID-TOY:2","externalId":"E-2"}`, 200, "")
	r.want("POST", r.World+"/faults", `{"service":"origo","kind":"drop","count":7}`, 200, "")
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()

	r = start(t, config(dir))
	r.want("GET", r.World+"/faults", "", 200, `"service":"origo"`)
	r.want("GET", r.World+"/provider", "", 200, `"available":["MID-TOY:1","MID-TOY:3"],"reserved":["MID-TOY:2"]`)
}

func TestWhatCannotRunIsSaidInOneLine(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.Addr().(*net.TCPAddr).Port
	for name, tt := range map[string]struct {
		change func(*local.Config)
		want   string
	}{
		"API port":      {func(c *local.Config) { c.Port = port }, "choose another with PORT"},
		"world port":    {func(c *local.Config) { c.WorldPort = port }, "choose another with WORLD_PORT"},
		"database port": {func(c *local.Config) { c.DynamoDBPort = port }, "choose another with DYNAMODB_PORT"},
		"no template":   {func(c *local.Config) { c.Root = t.TempDir() }, "template.yaml"},
		"no function":   {func(c *local.Config) { c.Root = withoutCode(t) }, "its code is expected in functions/toy"},
		"failing seed": {func(c *local.Config) {
			c.Seed = func(_ context.Context, s *local.Seeder) error { return s.Put("/nowhere", "{}") }
		}, "seeding: PUT /nowhere: 404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t.TempDir())
			tt.change(&cfg)
			err := local.Run(t.Context(), cfg, func(local.Addresses) { t.Error("ready") })
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
		})
	}
}

// withoutCode is the toy template without its functions.
func withoutCode(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../samlocal/testdata/toy/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "template.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
