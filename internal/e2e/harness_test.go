package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/child"
)

const (
	account       = "acme-origo"
	webhookHeader = "X-Webhook-Secret"
	webhookSecret = "local-webhook-secret"
	part1         = "MID-SUB-CRD_FTPN_1001" // profile hq
	part2         = "MID-SUB-CRD_FTPN_1002" // no profile draws from it on a fresh start
	root          = "../.."
)

// patience is how long anything may take that is not expected to take any time.
const patience = 30 * time.Second

// scratch is where the program and the data of the shared run are.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "mobilecred-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		build := exec.Command("go", "build", "-o", program(), "./internal/local/cmd/mobilecred-local")
		build.Dir, build.Stdout, build.Stderr = root, os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "building the local run:", err)
			return 1
		}
		defer stopShared()
		return m.Run()
	}())
}

func program() string { return filepath.Join(scratch, "mobilecred-local") }

// process is a run of the program: it may be stopped, killed and started again on the same directory and ports.
type process struct {
	dir   string
	ports map[string]int // by environment variable
	cmd   *exec.Cmd
	said  *output
	ended chan struct{}
	err   error // why it ended; read it after ended is closed

	mu      sync.Mutex
	tokens  map[string]string // by scopes
	foreign map[string]bool   // externalIds that are no holders of ours
}

// run is a process as one test sees it.
type run struct {
	*process
	t *testing.T
}

var startShared = sync.OnceValues(func() (*process, error) {
	p := newProcess(filepath.Join(scratch, "shared"))
	return p, p.start()
})

var sharedStarted atomic.Bool

func stopShared() {
	if sharedStarted.Load() {
		if p, err := startShared(); err == nil {
			p.stop()
		}
	}
}

func theShared(t *testing.T) *process {
	t.Helper()
	sharedStarted.Store(true)
	p, err := startShared()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shared is the run for tests that leave clock and weather alone and use holders of their own.
func shared(t *testing.T) *run {
	t.Helper()
	return see(t, theShared(t))
}

// private is a fresh run of the test's own. It ends with the test.
func private(t *testing.T) *run {
	t.Helper()
	dir := t.TempDir()
	// What the shared run has compiled is up to date, so that nothing is linked again.
	functions := filepath.Join("bin", "functions")
	if err := os.CopyFS(filepath.Join(dir, functions),
		os.DirFS(filepath.Join(theShared(t).dir, functions))); err != nil {
		t.Fatal(err)
	}
	p := newProcess(dir)
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.running() {
			p.stop()
		}
	})
	return see(t, p)
}

func see(t *testing.T, p *process) *run {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the run said:\n%s", p.said.tail())
		}
	})
	return &run{p, t}
}

func newProcess(dir string) *process {
	return &process{dir: dir, said: &output{}, tokens: map[string]string{}, foreign: map[string]bool{}}
}

// start returns when the run says that it is ready. The first start chooses the ports.
func (p *process) start() error {
	for attempt := 0; ; attempt++ {
		choose := p.ports == nil
		if choose {
			ports, err := freePorts("PORT", "WORLD_PORT", "DYNAMODB_PORT", "ORIGO_PORT")
			if err != nil {
				return err
			}
			p.ports = ports
		}
		err := p.startOnce()
		if err == nil {
			return nil
		}
		// Another process can take a free port before the run listens on it.
		if !choose || attempt == 2 || !strings.Contains(err.Error(), "is busy") {
			return err
		}
		p.ports = nil
	}
}

func (p *process) startOnce() error {
	cmd := exec.Command(program())
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "LOCAL_DIR="+p.dir, "DYNAMODB_ENDPOINT=")
	for name, port := range p.ports {
		cmd.Env = append(cmd.Env, name+"="+strconv.Itoa(port))
	}
	cmd.Stderr = p.said
	ready := make(chan struct{})
	cmd.Stdout = &firstLine{line: "ready", seen: ready, to: p.said}
	if err := child.Start(cmd); err != nil { // it ends with the test binary, however that ends
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		p.err = cmd.Wait()
		close(ended)
	}()
	select {
	case <-ready:
		return nil
	case <-ended:
		return fmt.Errorf("the run ended before it was ready: %v\n%s", p.err, p.said.tail())
	case <-time.After(3 * time.Minute): // the first one compiles everything
		p.kill9()
		return fmt.Errorf("the run was not ready in time:\n%s", p.said.tail())
	}
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// stop is Ctrl-C.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill9()
	}
}

// kill9 is kill -9 of the run alone; its children are its own affair.
func (p *process) kill9() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.ended
}

// again starts a stopped or killed run again.
func (r *run) again() {
	r.t.Helper()
	if err := r.start(); err != nil {
		r.t.Fatal(err)
	}
}

// restart is Ctrl-C and another start.
func (r *run) restart() {
	r.t.Helper()
	r.stop()
	r.again()
}

// processes are the command lines of every process that belongs to the run: its own, its children's, and those of
// children of a run that has ended. They are known by the run's directory, in their arguments or their environment.
func (r *run) processes() []string {
	r.t.Helper()
	var found []string
	if dirs, _ := filepath.Glob("/proc/[0-9]*"); len(dirs) > 0 {
		for _, dir := range dirs {
			args, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // one that has just ended has none
			env, _ := os.ReadFile(filepath.Join(dir, "environ"))
			if bytes.Contains(args, []byte(r.dir)) || bytes.Contains(env, []byte(r.dir)) {
				found = append(found, strings.ReplaceAll(string(args), "\x00", " "))
			}
		}
		return found
	}
	list, err := exec.Command("ps", "-A", "-ww", "-o", "args=").Output()
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if strings.Contains(line, r.dir) {
			found = append(found, line)
		}
	}
	return found
}

// gone waits until no process of the run is left. It has to look again and again, because the kernel reports the end of
// a process to its parent only.
func (r *run) gone() {
	r.t.Helper()
	deadline, tick := time.After(5*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		left := r.processes()
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("left behind: %s", strings.Join(left, "\n"))
		}
	}
}

// freePorts picks ports below the range from which the kernel gives ports to outgoing connections: one from that range
// could be in use by another process's connection when a killed run starts again.
func freePorts(names ...string) (map[string]int, error) {
	ports := map[string]int{}
	for _, name := range names {
		var l net.Listener
		err := errors.New("never tried")
		for range 20 {
			if l, err = net.Listen("tcp", ":"+strconv.Itoa(20_000+rand.IntN(12_000))); err == nil {
				break
			}
		}
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports[name] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// output keeps what a run prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.text.Bytes()
	return string(b[max(0, len(b)-8<<10):])
}

// firstLine passes on what is written and closes seen at the first line that is line.
type firstLine struct {
	line string
	seen chan struct{}
	to   io.Writer
	rest string
	done bool
}

func (f *firstLine) Write(b []byte) (int, error) {
	f.rest += string(b)
	for !f.done {
		line, rest, ok := strings.Cut(f.rest, "\n")
		if !ok {
			break
		}
		if f.rest = rest; line == f.line {
			f.done = true
			close(f.seen)
		}
	}
	return f.to.Write(b)
}

// answer is one HTTP answer, read to its end.
type answer struct {
	t      *testing.T
	call   string
	status int
	header http.Header
	body   []byte
}

// want stops the test unless the status is one of those.
func (a answer) want(status ...int) answer {
	a.t.Helper()
	if !slices.Contains(status, a.status) {
		a.t.Fatalf("%s: got %d %.500s, want %v", a.call, a.status, a.body, status)
	}
	return a
}

// into decodes the JSON body.
func (a answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%s: %v in %d %.500s", a.call, err, a.status, a.body)
	}
}

// code is a problem document's.
func (a answer) code() string {
	a.t.Helper()
	var problem struct{ Code string }
	a.into(&problem)
	return problem.Code
}

func (a answer) credential() credential {
	a.t.Helper()
	var c credential
	a.into(&c)
	return c
}

var client = &http.Client{Timeout: 40 * time.Second}

// try makes a call and returns its failure; what runs beside the test uses it. Paths below /v1 are the API's, with a
// token of all scopes unless the headers, name after value, say something else about Authorization (an empty value: no
// header). Any other path is the world's. The body is JSON unless it is a []byte.
func (r *run) try(method, path string, body any, headers ...string) (answer, error) {
	at, header := r.world(path), http.Header{}
	if body != nil {
		header.Set("Content-Type", "application/json")
	}
	if strings.HasPrefix(path, "/v1/") {
		at = r.api(path)
		token, err := r.tryToken()
		if err != nil {
			return answer{}, err
		}
		header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		if header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			header.Del(headers[i])
		}
	}
	text, raw := body.([]byte)
	if body != nil && !raw {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return answer{}, err
		}
	}
	req, err := http.NewRequest(method, at, bytes.NewReader(text))
	if err != nil {
		return answer{}, err
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{r.t, method + " " + path, resp.StatusCode, resp.Header, got}, err
}

// call is try for the test's own goroutine.
func (r *run) call(method, path string, body any, headers ...string) answer {
	r.t.Helper()
	a, err := r.try(method, path, body, headers...)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (r *run) get(path string) answer {
	r.t.Helper()
	return r.call("GET", path, nil)
}

func (r *run) post(path string, body any, headers ...string) answer {
	r.t.Helper()
	return r.call("POST", path, body, headers...)
}

func (r *run) put(path string, body any, headers ...string) answer {
	r.t.Helper()
	return r.call("PUT", path, body, headers...)
}

func (r *run) delete(path string) answer {
	r.t.Helper()
	return r.call("DELETE", path, nil)
}

func (r *run) api(path string) string   { return r.at("PORT", path) }
func (r *run) world(path string) string { return r.at("WORLD_PORT", path) }

func (r *run) at(port, path string) string {
	return "http://127.0.0.1:" + strconv.Itoa(r.ports[port]) + path
}

// token is one with these scopes, or with all there are.
func (r *run) token(scopes ...string) string {
	r.t.Helper()
	token, err := r.tryToken(scopes...)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *run) tryToken(scopes ...string) (string, error) {
	scope := strings.Join(scopes, " ")
	r.mu.Lock()
	defer r.mu.Unlock()
	if token := r.tokens[scope]; token != "" {
		return token, nil
	}
	path := "/token"
	if len(scopes) > 0 {
		path += "?scope=" + url.QueryEscape(scope)
	}
	resp, err := client.Get(r.world(path))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	token, err := io.ReadAll(resp.Body)
	r.tokens[scope] = string(token)
	return string(token), err
}

// m is a JSON object.
type m map[string]any

// credential is the API's; what is null there is empty here.
type credential struct {
	ID, HolderID, ProfileID, Name string
	Status, StatusReason, Stage   string
	MobileID                      string
	Card                          struct{ Number, Format, FacilityCode string }
	Invitation                    struct {
		Status, CodeHint, SentTo string
		SentAt, ExpiresAt        time.Time
		Mails                    int
	}
	Device      struct{ ID, Model, Platform string }
	ActivatedAt time.Time
	Provider    struct{ Account, State, LastError string }
	Revision    int
}

// path is the credential's in the API.
func (c credential) path() string { return "/v1/holders/" + c.HolderID + "/credentials/" + c.ID }

// entry is one of a credential's history.
type entry struct {
	ID, Event, From, To, Reason string
	At                          time.Time
	Actor                       struct{ Type, ID, Claimed string }
	Anomaly, Late               bool
	Revision                    int
}

// mail, phone, provider, event, deadLetter and fault are the world's.
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

var holders atomic.Int64

// holder puts a new cardholder, with changes to what a cardholder is, and returns the id: no other test has it. The
// e-mail address is the id's, at example.com.
func (r *run) holder(changes ...m) string {
	r.t.Helper()
	id := fmt.Sprintf("E-%d", holders.Add(1))
	body := m{"kind": "cardholder", "firstName": "Aimée", "lastName": "Tremblay", "email": address(id)}
	for _, c := range changes {
		maps.Copy(body, c)
	}
	r.put("/v1/holders/"+id, body).want(201)
	return id
}

func address(holder string) string { return strings.ToLower(holder) + "@example.com" }

// assign assigns a credential of profile hq and expects its invitation to be out at once.
func (r *run) assign(holder string) credential {
	r.t.Helper()
	return r.post("/v1/holders/"+holder+"/credentials", m{"profileId": "hq"}).want(201).credential()
}

// activated is a credential of hq of a new holder, on that device.
func (r *run) activated(device string) credential {
	r.t.Helper()
	c := r.assign(r.holder())
	r.redeem(device, r.codeOf(c.HolderID)).want(200)
	return r.becomes(c, "activated")
}

// read is the credential as it is now.
func (r *run) read(c credential) credential {
	r.t.Helper()
	return r.get(c.path()).want(200).credential()
}

// state is the stage of a live credential and the status of a final one.
func (c credential) state() string {
	if c.Stage != "" {
		return c.Stage
	}
	return c.Status
}

// becomes waits until the credential's state is that.
func (r *run) becomes(c credential, state string) credential {
	r.t.Helper()
	r.eventually(func() string {
		if c = r.read(c); c.state() != state {
			return fmt.Sprintf("credential %s is %s, not %s", c.ID, c.state(), state)
		}
		return ""
	})
	return c
}

func (r *run) history(c credential) []entry {
	r.t.Helper()
	var list struct{ Items []entry }
	r.get(c.path() + "/history").want(200).into(&list)
	return list.Items
}

// told are the names of the events in the history, in order, parted by spaces.
func (r *run) told(c credential) string {
	r.t.Helper()
	var names []string
	for _, e := range r.history(c) {
		names = append(names, e.Event)
	}
	return strings.Join(names, " ")
}

// mails are those to a holder, newest first.
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

// cancel is an administrator of the provider cancelling an invitation.
func (r *run) cancel(code string) {
	r.t.Helper()
	r.post("/provider/cancel", m{"code": code}).want(200)
}

// revoke is an administrator of the provider taking a mobile ID back.
func (r *run) revoke(mobileID string) {
	r.t.Helper()
	r.post("/provider/revoke", m{"mobileId": mobileID}).want(200)
}

// onBus are the events that crossed our bus, in the order of the world's answer.
func (r *run) onBus() []event {
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

func (r *run) noDeadLetters() {
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

// fault orders bad weather.
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

// eventually looks again whenever the world's page hears of a change, until wrong is empty: that is what wrong returns
// what is still amiss for.
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

// agree waits for rest and compares: the provider's reserved and issued mobile IDs are exactly those of our live
// credentials. With holders named, only their mobile IDs are compared; without, all of them, except those the provider
// gave to people who are not our holders.
func (r *run) agree(only ...string) {
	r.t.Helper()
	r.settle()
	theirs := map[string][]string{}
	for _, u := range r.provider().Users {
		if r.foreign[u.ExternalID] || len(only) > 0 && !slices.Contains(only, u.ExternalID) {
			continue
		}
		for _, inv := range u.Invitations {
			if inv.MobileID != nil {
				theirs[u.ExternalID] = append(theirs[u.ExternalID], *inv.MobileID)
			}
		}
	}
	ours := map[string][]string{}
	for _, c := range r.live() {
		if len(only) == 0 || slices.Contains(only, c.HolderID) {
			ours[c.HolderID] = append(ours[c.HolderID], c.MobileID)
		}
	}
	for _, by := range []map[string][]string{theirs, ours} {
		for _, ids := range by {
			slices.Sort(ids)
		}
	}
	if !maps.EqualFunc(theirs, ours, slices.Equal[[]string]) {
		r.t.Errorf("by holder, the provider has\n%v\nand we have\n%v", theirs, ours)
	}
}

// live are the live credentials of every profile.
func (r *run) live() []credential {
	r.t.Helper()
	var profiles struct{ Items []struct{ ID string } }
	r.get("/v1/profiles").want(200).into(&profiles)
	var all []credential
	for _, p := range profiles.Items {
		query := url.Values{"profileId": {p.ID}, "status": {"active"}}
		for {
			var page struct {
				Items      []credential
				NextCursor string
			}
			r.get("/v1/credentials?" + query.Encode()).want(200).into(&page)
			all = append(all, page.Items...)
			if page.NextCursor == "" {
				break
			}
			query.Set("cursor", page.NextCursor)
		}
	}
	return all
}
