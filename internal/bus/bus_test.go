package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/mobilecred/mobilecred/internal/bus/envelope"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// bridge is EventBridge: it takes what its limits allow, unless a detail is named to be refused that many times, or a
// request to fail.
type bridge struct {
	t        *testing.T
	taken    []string
	requests int
	refuse   map[string]int
	fail     map[int]error // by request, from 1
}

func (b *bridge) PutEvents(_ context.Context, in *eventbridge.PutEventsInput,
	_ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	b.requests++
	if err := b.fail[b.requests]; err != nil {
		return nil, err
	}
	size := 0
	out := &eventbridge.PutEventsOutput{}
	for _, e := range in.Entries {
		size += len(*e.Source) + len(*e.DetailType) + len(*e.Detail)
		if *e.EventBusName != "mobilecred" || *e.Source != envelope.SourceProvider {
			b.t.Errorf("on %s from %s", *e.EventBusName, *e.Source)
		}
		if b.refuse[*e.Detail] > 0 {
			b.refuse[*e.Detail]--
			out.FailedEntryCount++
			out.Entries = append(out.Entries, types.PutEventsResultEntry{ErrorCode: new("ThrottlingException"),
				ErrorMessage: new("CANARY")})
			continue
		}
		b.taken = append(b.taken, *e.Detail)
		out.Entries = append(out.Entries, types.PutEventsResultEntry{EventId: new("id")})
	}
	if len(in.Entries) > 10 || size > 256<<10 {
		b.t.Errorf("a request of %d entries and %d bytes", len(in.Entries), size)
	}
	return out, nil
}

func (b *bridge) bus(waits *int) *Bus {
	bus := New(b, "mobilecred", envelope.SourceProvider)
	bus.backoff.Sleep = func(ctx context.Context, d time.Duration) error {
		if *waits++; d > maxWait {
			b.t.Errorf("waits %v", d)
		}
		return ctx.Err()
	}
	return bus
}

func entries(n int) (all []Entry) {
	for i := range n {
		all = append(all, Entry{DetailType: envelope.ProviderUserChanged, Detail: i})
	}
	return all
}

func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestPublishInOrderAndInBatches(t *testing.T) {
	for n, requests := range map[int]int{0: 0, 1: 1, 10: 1, 11: 2, 35: 4} {
		b, waits := &bridge{t: t}, 0
		if err := b.bus(&waits).Publish(t.Context(), entries(n)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(b.taken, numbers(0, n)) || b.requests != requests || waits != 0 {
			t.Errorf("%d: took %v in %d requests, %d waits", n, b.taken, b.requests, waits)
		}
	}
}

func TestLargeEntriesShareNoRequest(t *testing.T) {
	b, waits := &bridge{t: t}, 0
	var large []Entry
	for range 5 {
		large = append(large, Entry{DetailType: "x", Detail: strings.Repeat("y", 100<<10), Time: time.Now()})
	}
	if err := b.bus(&waits).Publish(t.Context(), large); err != nil || len(b.taken) != 5 || b.requests != 3 {
		t.Errorf("took %d in %d requests, %v", len(b.taken), b.requests, err)
	}
}

func TestRefusedEntriesAloneAreTriedAgain(t *testing.T) {
	b, waits := &bridge{t: t, refuse: map[string]int{"1": 1, "3": 3}}, 0
	if err := b.bus(&waits).Publish(t.Context(), entries(5)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"0", "2", "4", "1", "3"}; !reflect.DeepEqual(b.taken, want) || b.requests != 4 || waits != 3 {
		t.Errorf("took %v in %d requests, %d waits", b.taken, b.requests, waits)
	}
}

func TestWhatIsLeftIsNamed(t *testing.T) {
	b, waits := &bridge{t: t, refuse: map[string]int{"1": 99, "12": 99}}, 0
	err := b.bus(&waits).Publish(t.Context(), entries(15))
	var left *Error
	if !errors.As(err, &left) || !reflect.DeepEqual(left.Failed, []int{1, 12}) ||
		left.Codes["ThrottlingException"] != 2 || len(b.taken) != 13 || b.requests != 8 {
		t.Fatalf("%+v, took %v in %d requests", err, b.taken, b.requests)
	}
	if want := "bus: 2 of 15 events not published (2 ThrottlingException)"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestFailedRequestEndsIt(t *testing.T) {
	down := errors.New("no route")
	b, waits := &bridge{t: t, fail: map[int]error{2: down}}, 0
	err := b.bus(&waits).Publish(t.Context(), entries(25))
	var left *Error
	if !errors.As(err, &left) || !errors.Is(err, down) || len(left.Failed) != 15 || left.Failed[0] != 10 ||
		b.requests != 2 {
		t.Errorf("%v after %d requests", err, b.requests)
	}
}

func TestNoMoreAttemptsWhenTheTimeIsUp(t *testing.T) {
	b, waits := &bridge{t: t, refuse: map[string]int{"0": 99}}, 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.bus(&waits).Publish(ctx, entries(12)); !errors.Is(err, context.Canceled) || b.requests != 1 {
		t.Errorf("%v after %d requests", err, b.requests)
	}
}

func TestDetailThatIsNoJSON(t *testing.T) {
	b, waits := &bridge{t: t}, 0
	if err := b.bus(&waits).Publish(t.Context(), []Entry{{Detail: 1}, {Detail: make(chan int)}}); err == nil ||
		b.requests != 0 {
		t.Errorf("%v after %d requests", err, b.requests)
	}
}

func TestFactsComeOutAsTheyWentIn(t *testing.T) {
	sent := provider.UserFacts{Account: "acme-origo", UserID: "103367",
		Facts: []provider.Fact{{What: provider.AboutCredential, Ref: "887001",
			Status: provider.FactIssued, DeviceID: "550017", MobileID: "MID:56", At: time.Date(2026, 11, 20, 10, 12, 4,
				0, time.UTC)}}}
	b, waits := &bridge{t: t}, 0
	if err := b.bus(&waits).Publish(t.Context(),
		[]Entry{{DetailType: envelope.ProviderUserChanged, Detail: sent}}); err != nil {
		t.Fatal(err)
	}
	got, err := envelope.Provider(events.EventBridgeEvent{Source: envelope.SourceProvider,
		DetailType: envelope.ProviderUserChanged, Detail: json.RawMessage(b.taken[0])})
	if err != nil || !reflect.DeepEqual(got, sent) {
		t.Errorf("%+v, %v", got, err)
	}
}
