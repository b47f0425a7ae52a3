package origosim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault   Fault
		status  int
		happens bool
	}{
		"error":           {Fault{Kind: "error", When: "before"}, 500, false},
		"error, after":    {Fault{Kind: "error", When: "after"}, 500, true},
		"throttle":        {Fault{Kind: "throttle"}, 403, false},
		"throttle, after": {Fault{Kind: "throttle", When: "after"}, 403, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.plan("reserve", c.fault)
			w.call(c.status, "POST", "users", person("ngozi", hq))
			if happened := len(w.State().Users) == 1; happened != c.happens {
				t.Errorf("happened: %v", happened)
			}
			w.call(201, "POST", "users", person("tomas", hq))
		})
	}
}

func TestFaultsByOperation(t *testing.T) {
	w := newWorld(t)
	in := w.assign("ngozi", hq)
	search := map[string]any{"filter": `emails eq "x@example.com"`}
	for _, c := range []struct {
		op, method, path string
		body             any
	}{
		{"search", "POST", "users/.search", search},
		{"read", "GET", "users/103367", nil},
		{"update", "PUT", "users/103367", map[string]any{}},
		{"revoke", "DELETE", "users/103367", nil},
		{"reserve", "POST", "users/103367/invitation", map[string]any{}},
		{"cancel", "DELETE", "invitation/1", nil},
		{"revoke", "DELETE", "credential/1", nil},
		{"stock", "GET", "part-number", nil},
		{"stock", "GET", "part-number/41", nil},
		{"photo", "POST", "users/103367/photo", []byte{}},
		{"photo", "PUT", "users/103367/photo/1/status", map[string]any{}},
		{"photo", "DELETE", "users/103367/photo/1", nil},
	} {
		w.plan(c.op, Fault{Kind: "error"})
		w.call(500, c.method, c.path, c.body)
	}
	w.plan("token", Fault{Kind: "throttle"})
	if a := w.do(tokenRequest("")); a.status != 403 {
		t.Errorf("token: %d", a.status)
	}
	w.wantInvitation(in, "PENDING", in.mobileID)

	// A request that is turned away at the door does not use up the fault meant for a real one.
	w.plan("read", Fault{Kind: "error"})
	r := w.request("GET", "users/103367", nil)
	r.Header.Del("Authorization")
	if a := w.do(r); a.status != 401 {
		t.Errorf("without a token: %d", a.status)
	}
	w.call(500, "GET", "users/103367", nil)
}

func TestTimeoutCutsTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		hold time.Duration
		want error
	}{
		"held a while, then cut":               {time.Millisecond, io.EOF},
		"held for as long as the client waits": {0, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			if c.hold == 0 {
				w.opts.Changed = giveUp // once it took effect
			}
			w.plan("reserve", Fault{Kind: "timeout", When: "after", Hold: c.hold})
			server := httptest.NewServer(w.Handler())
			defer server.Close()
			r := w.request("POST", "users", person("ngozi", hq))
			out, err := http.NewRequestWithContext(ctx, r.Method, server.URL+r.URL.Path, r.Body)
			w.ok(err)
			out.Header = r.Header
			answer, err := http.DefaultClient.Do(out)
			if err == nil {
				answer.Body.Close()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if len(w.State().Users) != 1 {
				t.Error("the effect is missing")
			}
		})
	}
}

// runs runs fn with the sender of callbacks beside it, in a bubble whose time passes only when all wait.
func runs(t *testing.T, fn func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		var stopped = make(chan struct{})
		go func() { w.Run(ctx); close(stopped) }()
		fn(t, w)
		cancel()
		<-stopped
	})
}

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func batchKinds(batches [][]cloudEvent) (kinds []string) {
	for _, b := range batches {
		kinds = append(kinds, b[len(b)-1].Data["status"].(string))
	}
	return kinds
}

func TestCallbacksArriveInOrder(t *testing.T) {
	runs(t, func(t *testing.T, w *world) {
		in := w.assign("ngozi", hq)
		w.ok(w.Redeem("phone-a", in.code))
		w.ok(w.Revoke(in.mobileID))
		synctest.Wait()
		equal(
			t,
			"delivered",
			batchKinds(w.delivered),
			[]string{"CREDENTIAL_RESERVED", "CREDENTIAL_ISSUED", "CREDENTIAL_REVOKED"},
		)
		if !w.Settled() || len(w.st.Queue) != 0 {
			t.Error("not settled")
		}
		w.restart()
		if len(w.st.Queue) != 0 {
			t.Error("delivered callbacks are queued again after a restart")
		}
	})
}

func TestRefusedCallbackIsSentAgain(t *testing.T) {
	runs(t, func(t *testing.T, w *world) {
		w.refuse = 2
		in := w.assign("ngozi", hq)
		w.ok(w.Redeem("phone-a", in.code))
		synctest.Wait()
		if len(w.delivered) != 0 || !w.Settled() {
			t.Errorf("%d delivered before the first retry is due; settled %v", len(w.delivered), w.Settled())
		}
		pass(firstRetry + 2*firstRetry)
		equal(t, "delivered", batchKinds(w.delivered), []string{"CREDENTIAL_RESERVED", "CREDENTIAL_ISSUED"})
	})
}

func TestAClockJumpMakesRetriesDue(t *testing.T) {
	runs(t, func(t *testing.T, w *world) {
		w.refuse = 6
		w.assign("ngozi", hq)
		synctest.Wait()
		for w.refuse > 1 {
			w.advance(time.Minute)
			synctest.Wait()
		}
		if len(w.delivered) != 0 {
			t.Fatalf("%d delivered", len(w.delivered))
		}
		w.refuse = 0
		w.advance(time.Minute)
		synctest.Wait()
		if len(w.delivered) != 1 {
			t.Errorf("%d delivered", len(w.delivered))
		}
	})
}

func TestACallbackThatIsAlwaysRefusedIsGivenUp(t *testing.T) {
	runs(t, func(t *testing.T, w *world) {
		w.refuse = deliveries
		w.assign("ngozi", hq)
		pass(time.Minute)
		w.assign("tomas", hq)
		pass(time.Minute)
		if w.refuse != 0 || len(w.delivered) != 1 || w.delivered[0][0].Data["firstName"] != "tomas" {
			t.Errorf("delivered: %v", w.delivered)
		}
		if len(w.st.Events) != 6 {
			t.Errorf("the events API has %d events", len(w.st.Events))
		}
	})
}

func TestCallbacksAboutDifferentUsersAreSentSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		underway, most := map[any]int{}, 0
		w.opts.Deliver = func(ctx context.Context, body []byte) error {
			var events []cloudEvent
			w.ok(json.Unmarshal(body, &events))
			user := events[0].Data["userId"]
			w.around.Lock()
			underway[user]++
			if underway[user] > 1 {
				t.Errorf("two callbacks about user %v at a time", user)
			}
			most = max(most, len(underway))
			w.around.Unlock()
			<-time.After(time.Second)
			w.around.Lock()
			defer w.around.Unlock()
			if underway[user]--; underway[user] == 0 {
				delete(underway, user)
			}
			return nil
		}
		users := 2 * sideBySide
		w.ok(w.Seed(SeedPartNumber{PartNumber: "MID-LARGE", First: 1, Count: users}))
		for i := range users {
			in := w.assign(fmt.Sprint("user", i), "MID-LARGE")
			w.ok(w.Redeem("phone-a", in.code))
		}
		stopped := make(chan struct{})
		go func() { w.Run(ctx); close(stopped) }()
		begun := time.Now()
		for !w.Settled() {
			pass(100 * time.Millisecond)
		}
		if took := time.Since(begun).Round(time.Second); most != sideBySide || took != 4*time.Second {
			t.Errorf("%d at a time at most, %v for two callbacks of a second about each of %d users", most, took, users)
		}
		cancel()
		<-stopped
	})
}

func TestChangedIsCalledWhenCallbacksHaveComeToRest(t *testing.T) {
	for name, refuse := range map[string]int{"delivered": 0, "refused": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.refuse = refuse
				settled := make(chan struct{}, 1)
				w.opts.Changed = func() {
					if w.Settled() {
						select {
						case settled <- struct{}{}:
						default:
						}
					}
				}
				w.assign("ngozi", hq)
				ctx, cancel := context.WithCancel(t.Context())
				stopped := make(chan struct{})
				go func() { w.Run(ctx); close(stopped) }()
				<-settled // in this bubble a call that is missing is a deadlock
				cancel()
				<-stopped
			})
		})
	}
}

func TestARefusedCallbackHoldsUpNoOtherUser(t *testing.T) {
	runs(t, func(t *testing.T, w *world) {
		w.refuse = 1
		w.assign("ngozi", hq)
		synctest.Wait()
		w.assign("tomas", hq)
		synctest.Wait()
		if len(w.delivered) != 1 || w.delivered[0][0].Data["firstName"] != "tomas" {
			t.Errorf("delivered before the retry is due: %v", w.delivered)
		}
	})
}

func TestDroppedAndRepeatedCallbacks(t *testing.T) {
	runs(t, func(t *testing.T, w *world) {
		w.plan(
			"callback",
			Fault{Kind: "drop"},
			Fault{Kind: "error", When: "before"},
			Fault{Kind: "error", When: "after"},
		)
		w.assign("ngozi", hq)
		w.assign("tomas", hq)
		pass(time.Minute)
		var names []any
		for _, b := range w.delivered {
			names = append(names, b[0].Data["firstName"])
		}
		equal(t, "delivered", names, []any{"tomas", "tomas"})
		if len(w.st.Events) != 6 {
			t.Errorf("the events API has %d events", len(w.st.Events))
		}
	})
}

func TestInterruptedCallbackIsSentAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		w.opts.Deliver = func(ctx context.Context, _ []byte) error {
			<-ctx.Done()
			return ctx.Err()
		}
		stopped := make(chan struct{})
		go func() { w.Run(ctx); close(stopped) }()
		w.assign("ngozi", hq)
		synctest.Wait()
		if w.Settled() {
			t.Error("settled with a callback under way")
		}
		cancel()
		<-stopped

		w.restart()
		ctx, cancel = context.WithCancel(t.Context())
		go w.Run(ctx)
		synctest.Wait()
		if len(w.delivered) != 1 {
			t.Errorf("%d delivered after the restart", len(w.delivered))
		}
		cancel()
	})
}
