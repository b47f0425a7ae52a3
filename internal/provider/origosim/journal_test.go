package origosim

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// whole is the state as text, for comparing.
func (w *world) whole() string {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wholeOf(w.st)
}

func (w *world) wholeOf(st *state) string {
	w.t.Helper()
	text, err := st.whole()
	w.ok(err)
	return string(text)
}

// live does something that can happen at the provider, most of the time something that is possible.
func (w *world) live(r *rand.Rand, invitations []invited) []invited {
	name := fmt.Sprint("user", r.IntN(6))
	var in invited
	if len(invitations) > 0 {
		in = invitations[r.IntN(len(invitations))]
	}
	phone := fmt.Sprint("phone-", r.IntN(3))
	path := fmt.Sprintf("users/%d", in.user)
	request := func(method, path string, body any) answer { return w.do(w.request(method, path, body)) }
	switch r.IntN(14) {
	case 0, 1, 2:
		if a := request("POST", "users", person(name, hq)); a.status == 201 {
			invitations = append(invitations, w.invited(int64(a.body["id"].(float64)), a))
		}
	case 3:
		body := map[string]any{"schemas": []string{urn + "UserAction"}, urn + "UserAction": invitationFor(labs)}
		if a := request("POST", path+"/invitation", body); a.status == 200 {
			invitations = append(invitations, w.invited(in.user, a))
		}
	case 4:
		_ = w.Redeem(phone, in.code)
	case 5:
		_ = w.Accept(phone, in.code)
	case 6:
		_ = w.Sync(phone)
	case 7:
		_ = w.Remove(phone)
	case 8:
		_ = w.Cancel(in.code)
	case 9:
		_ = w.Revoke(in.mobileID)
	case 10:
		_ = w.Reassign(in.mobileID, "E-"+name)
	case 11:
		request("PUT", path, map[string]any{"emails": []any{map[string]any{"value": name + "@example.org"}}})
	case 12:
		request("DELETE", path, nil)
	case 13:
		w.advance(time.Duration(r.IntN(3*24)) * time.Hour)
	}
	return invitations
}

// check fails unless the indexes are what a look at all users gives.
func (w *world) check() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh, torn, err := replay([]byte(w.wholeOf(w.st)))
	w.ok(err)
	if torn {
		w.t.Fatal("a whole state is torn")
	}
	ids := func(st *state) map[string][]int64 {
		all := map[string][]int64{}
		for name, ix := range map[string]index[string]{"email": st.emails, "external": st.externalIDs, "code": st.codes,
			"mobile ID": st.mobileIDs, "phone": st.phones} {
			for k := range ix {
				for _, u := range ix.all(k) {
					all[name+" "+k] = append(all[name+" "+k], u.ID)
				}
			}
		}
		for name, ix := range map[string]index[int64]{"invitation": st.invitations, "credential": st.credentials} {
			for k := range ix {
				for _, u := range ix.all(k) {
					all[fmt.Sprint(name, k)] = append(all[fmt.Sprint(name, k)], u.ID)
				}
			}
		}
		for _, p := range st.PartNumbers {
			for _, n := range p.available() {
				all[p.PartNumber] = append(all[p.PartNumber], int64(n))
			}
		}
		return all
	}
	if got, want := ids(w.st), ids(fresh); !reflect.DeepEqual(got, want) {
		w.t.Fatalf("the indexes hold %v, the users %v", got, want)
	}
}

func TestAJournalCutAtAnyByteIsTheStateAfterItsWholeLines(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t)
			r := rand.New(rand.NewPCG(seed, 0))
			var invitations []invited
			after := map[int]string{0: w.wholeOf(newState())} // by the number of lines
			for range 60 {
				before := w.whole()
				lines := bytes.Count(w.disk, []byte("\n"))
				after[lines] = before
				invitations = w.live(r, invitations)
				if lines == bytes.Count(w.disk, []byte("\n")) && w.whole() != before {
					t.Fatal("something changed, and the journal was not told")
				}
				w.check()
			}
			journal := w.disk
			after[bytes.Count(journal, []byte("\n"))] = w.whole()
			last := bytes.LastIndexByte(journal[:len(journal)-1], '\n')
			cuts := []int{0, 1, last, last + 1, last + 2, len(journal) - 1, len(journal)}
			for range 60 {
				cuts = append(cuts, r.IntN(len(journal)))
			}
			for _, cut := range cuts {
				st, torn, err := replay(journal[:cut])
				if err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				if whole := cut == 0 || journal[cut-1] == '\n'; torn == whole {
					t.Fatalf("cut at %d: torn %v", cut, torn)
				}
				// The two halves of a change that expired something first are two lines; after has no word on the
				// first.
				want, known := after[bytes.Count(journal[:cut], []byte("\n"))]
				if known && w.wholeOf(st) != want {
					t.Fatalf("cut at %d: got\n%s\nwant\n%s", cut, w.wholeOf(st), want)
				}
			}
		})
	}
}

func TestAKilledSimulatorGoesOnFromItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	w := newWorld(t)
	open := func() {
		t.Helper()
		j, err := OpenJournal(path)
		w.ok(err)
		opts := w.opts
		opts.Load, opts.Save, opts.Replace = j.Load, j.Append, j.Replace
		w.Sim, err = New(opts)
		w.ok(err)
	}
	open()
	w.ok(w.Seed(SeedPartNumber{PartNumber: hq, First: 56, Count: 5}))
	kept := w.assign("ngozi", hq)
	w.assign("tomas", hq)
	journal, err := os.ReadFile(path)
	w.ok(err)
	for cut := bytes.LastIndexByte(journal[:len(journal)-1], '\n') + 1; cut < len(journal); cut += 97 {
		w.ok(os.WriteFile(path, journal[:cut], 0o600))
		open()
		if users := w.State().Users; len(users) != 1 || users[0].Invitations[0].ID != fmt.Sprint(kept.invitation) {
			t.Fatalf("cut at %d: %+v", cut, users)
		}
		w.assign("maria", hq) // what follows a torn line must be readable
		open()
		if users := w.State().Users; len(users) != 2 {
			t.Fatalf("cut at %d, then one more: %+v", cut, users)
		}
	}
	leftovers, err := filepath.Glob(path + "-*")
	if err != nil || leftovers != nil {
		t.Errorf("left over: %v %v", leftovers, err)
	}
}

func TestADamagedJournalIsRefused(t *testing.T) {
	w := newWorld(t)
	w.assign("ngozi", hq)
	at := bytes.IndexByte(w.disk, '\n') + 20
	w.disk[at]++
	if _, err := New(w.opts); err == nil || !strings.Contains(err.Error(), "line 2 of the journal is damaged") {
		t.Errorf("got %v", err)
	}
}

func TestTheJournalDoesNotGrowForEver(t *testing.T) {
	runs(t, func(t *testing.T, w *world) {
		in := w.assign("ngozi", hq)
		longest, anew, change := 0, false, map[string]any{
			"name": map[string]any{"familyName": strings.Repeat("x", 16<<10)},
		}
		for range compactAfter / (16 << 10) {
			synctest.Wait()
			before := len(w.disk)
			w.call(200, "PUT", fmt.Sprintf("users/%d", in.user), change)
			synctest.Wait()
			longest, anew = max(longest, len(w.disk)), anew || len(w.disk) < before
		}
		synctest.Wait()
		before := w.whole()
		if !anew || longest > compactAfter+2*len(before) {
			t.Errorf("written anew: %v; %d bytes at most for a state of %d", anew, longest, len(before))
		}
		w.restart()
		if after := w.whole(); after != before {
			t.Error("another state after a restart")
		}
	})
}

func TestWhatIsRefusedLeavesNoTrace(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	other := w.assign("tomas", labs)
	w.ok(w.Seed(SeedPartNumber{PartNumber: "MID-EMPTY", First: 1, Count: 0}))
	before, disk := w.whole(), string(w.disk)
	for name, refused := range map[string]func(){
		"no mobile ID left for a new user": func() { w.call(400, "POST", "users", person("maria", "MID-EMPTY")) },
		"no mobile ID left for a user": func() {
			w.call(400, "POST", fmt.Sprintf("users/%d/invitation", in.user),
				map[string]any{urn + "UserAction": invitationFor("MID-EMPTY")})
		},
		"an address that is taken": func() {
			w.call(409, "PUT", fmt.Sprintf("users/%d", in.user),
				map[string]any{"emails": []any{map[string]any{"value": "TOMAS@example.com"}}})
		},
		"a photo that does not exist": func() {
			w.call(404, "DELETE", fmt.Sprintf("users/%d/photo/9", other.user),
				nil)
		},
		"an unknown code":     func() { _ = w.Redeem("phone-a", "AAAA") },
		"a card out of range": func() { _ = w.Reassign(hq+":99", "E-x") },
	} {
		t.Run(name, func(t *testing.T) {
			refused()
			if w.whole() != before || string(w.disk) != disk {
				t.Error("it left a trace")
			}
			w.check()
		})
	}
}

func TestChangesMadeMeanwhileAreSavedTogether(t *testing.T) {
	w := newWorld(t)
	entered, release := make(chan struct{}), make(chan struct{})
	saves := 0
	save := w.save
	w.save = func(lines []byte) error {
		if saves++; saves == 1 {
			close(entered)
			<-release
		}
		return save(lines)
	}
	var group sync.WaitGroup
	create := func(i int) {
		group.Go(func() { w.do(w.request("POST", "users", person(fmt.Sprint("user", i), ""))) })
	}
	create(0)
	<-entered
	for i := range 9 {
		create(i + 1)
	}
	for n := 0; n < 10; { // until all of them have taken effect in memory
		w.mu.Lock()
		n = len(w.st.Users)
		w.mu.Unlock()
	}
	close(release)
	group.Wait()
	if saves != 2 {
		t.Errorf("%d saves for one change and nine made meanwhile", saves)
	}
	w.restart()
	if n := len(w.State().Users); n != 10 {
		t.Errorf("%d users after a restart", n)
	}
}

func TestNothingIsSeenThatIsLostLater(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	entered, release := make(chan struct{}), make(chan error)
	save := w.save
	var once sync.Once
	w.save = func([]byte) error {
		once.Do(func() { close(entered) })
		if err, waited := <-release; waited {
			return err
		}
		return errors.New("still full")
	}
	var group sync.WaitGroup
	var first, second error
	var seen InvitationState
	group.Go(func() { first = w.Redeem("phone-a", in.code) })
	<-entered
	group.Go(func() { second = w.Redeem("phone-b", in.code) })
	group.Go(func() { seen, _ = w.Invitation(in.code) })
	release <- errors.New("disk full")
	close(release)
	group.Wait()
	if first == nil || second == nil || errors.Is(first, ErrTaken) {
		t.Errorf("got %v and %v, want a failure each", first, second)
	}
	if seen.Status != "PENDING" {
		t.Errorf("a reader saw %+v", seen)
	}
	w.save = save
	w.ok(w.Redeem("phone-b", in.code))
	if w.badges("phone-a") != "" || w.badges("phone-b") != in.mobileID {
		t.Error("the change that was lost shows")
	}
}

func TestWithoutAJournalNothingIsKept(t *testing.T) {
	w := newWorld(t)
	opts := w.opts
	opts.Load, opts.Save, opts.Replace = nil, nil, nil
	sim, err := New(opts)
	w.ok(err)
	w.ok(sim.Seed(SeedPartNumber{PartNumber: hq, First: 1, Count: 1}))
	if n := len(sim.State().PartNumbers); n != 1 {
		t.Errorf("%d part numbers", n)
	}
}
