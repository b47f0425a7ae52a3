package origo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"net/http/httptest"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
	"github.com/mobilecred/mobilecred/internal/provider/origosim"
)

// simulated is the adapter calling our own simulator. What passes here is not evidence of how HID behaves.
type simulated struct {
	*origo.Client
	sim    *origosim.Sim
	now    clock
	sent   chan []byte // callbacks
	mu     sync.Mutex
	faults map[string]origosim.Fault
}

func simulate(t *testing.T, switches origosim.Switches) *simulated {
	t.Helper()
	s := &simulated{faults: map[string]origosim.Fault{}, sent: make(chan []byte, 100)}
	var err error
	s.sim, err = origosim.New(origosim.Options{
		Account: "acme-origo", OrganizationID: "1003233", ClientID: "1003233-OSRV1", ClientSecret: "CANARY-secret",
		ApplicationID: "APP",
		Now:           s.now.Now,
		Load:          func() ([]byte, error) { return nil, nil },
		Save:          func([]byte) error { return nil },
		Fault: func(op, _ string) (origosim.Fault, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			f, ok := s.faults[op]
			delete(s.faults, op)
			return f, ok
		},
		Deliver: func(_ context.Context, body []byte) error {
			s.sent <- body
			return nil
		},
		Changed:  func() {},
		Switches: switches,
	})
	if err == nil {
		err = s.sim.Seed(origosim.SeedPartNumber{PartNumber: part, Format: "H10301", FacilityCode: "42",
			First: 56, Count: 5},
			origosim.SeedPartNumber{PartNumber: "MID-SMALL", Format: "H10304", FacilityCode: "7", First: 1, Count: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.sim.Handler())
	t.Cleanup(server.Close)
	s.Client = origo.New(config(server.URL), server.Client(), s.now.Now, new(limiter))
	return s
}

func (s *simulated) fault(op string, f origosim.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[op] = f
}

func (s *simulated) reserve(t *testing.T, userID string) credential.Reserved {
	t.Helper()
	r, err := s.Reserve(t.Context(), userID, aimee, part)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *simulated) read(t *testing.T, userID string) provider.User {
	t.Helper()
	u, err := s.User(t.Context(), userID)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (s *simulated) available(t *testing.T, partNumber string) int {
	t.Helper()
	stock, err := s.Stock(t.Context(), partNumber)
	if err != nil {
		t.Fatal(err)
	}
	return stock.Available
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWithTheSimulatorWhateverItsSwitches(t *testing.T) {
	for bits := range 16 {
		switches := origosim.Switches{CancelFreesID: bits&1 != 0, CancelAcceptedAnswers2xx: bits&2 != 0,
			SearchByExternalID:       bits&4 != 0,
			OnePerPartNumberAndPhone: bits&8 != 0}
		t.Run(fmt.Sprintf("%+v", switches), func(t *testing.T) {
			t.Parallel()
			s := simulate(t, switches)
			ctx := t.Context()

			_, err := s.FindUser(ctx, aimee)
			isKind(t, err, provider.ErrNotFound)
			first := s.reserve(t, "")
			second := s.reserve(t, first.UserID)
			equal(t, *first.Mobile, credential.MobileID{ID: part + ":56", Number: "56", Format: "H10301",
				FacilityCode: "42"})
			found, err := s.FindUser(ctx, aimee)
			must(t, err)
			equal(t, found, s.read(t, first.UserID))
			equal(t, found.Invitations[0], provider.Invitation{ID: first.InvitationRef,
				Status: provider.InvitationPending, Code: first.Code,
				ExpiresAt: first.ExpiresAt, CreatedAt: start})
			equal(t, found.Credentials, []provider.Credential{reservedAs(first), reservedAs(second)})

			// Cancelled, and then gone either with the invitation or by revoking what was reserved.
			must(t, s.Cancel(ctx, first.InvitationRef))
			if user := s.read(t, first.UserID); user.Invitations[0].Status != provider.InvitationCancelled {
				t.Errorf("the invitation is %s", user.Invitations[0].Status)
			}
			err = s.Revoke(ctx, first.CredentialRef)
			if switches.CancelFreesID {
				isKind(t, err, provider.ErrNotFound)
			} else {
				must(t, err)
			}
			equal(t, s.read(t, first.UserID).Credentials, []provider.Credential{reservedAs(second)})
			equal(t, s.available(t, part), 4)

			// The invitation is redeemed, so a cancellation comes too late, also when it is answered with success.
			must(t, s.sim.Redeem("phone-A", second.Code.Reveal()))
			err = s.Cancel(ctx, second.InvitationRef)
			if switches.CancelAcceptedAnswers2xx {
				must(t, err)
			} else {
				isKind(t, err, provider.ErrRefused)
			}
			user := s.read(t, second.UserID)
			equal(t, user.Invitations[1].Status, provider.InvitationAccepted)
			if d := user.Credentials[0].Device; d == nil || d.ID != "phone-A" || d.Model == "" || d.Platform == "" ||
				user.Credentials[0].Issuing {
				t.Errorf("on %+v", d)
			}

			// A second of the same part number on the same phone.
			third := s.reserve(t, first.UserID)
			if err := s.sim.Redeem("phone-A", third.Code.Reveal()); (err == nil) == switches.OnePerPartNumberAndPhone {
				t.Errorf("redeeming: %v", err)
			}

			var picture bytes.Buffer
			must(t, jpeg.Encode(&picture, image.NewGray(image.Rect(0, 0, 2, 2)), nil))
			photo, err := s.SetPhoto(ctx, user.ID, credential.Picture{ContentType: "image/jpeg", Data: picture.Bytes()})
			must(t, err)
			equal(t, s.sim.Phone("phone-A").Badges[0].HasPicture, true)
			must(t, s.RemovePhoto(ctx, user.ID, photo))
			equal(t, s.sim.Phone("phone-A").Badges[0].HasPicture, false)
			isKind(t, s.RemovePhoto(ctx, user.ID, photo), provider.ErrNotFound)

			// The person changes; others have addresses too.
			other := provider.Person{ExternalID: "E-2", FirstName: "Noé", LastName: "Roy", Email: "noe@example.com"}
			_, err = s.Reserve(ctx, "", other, "MID-SMALL")
			must(t, err)
			_, err = s.Reserve(ctx, first.UserID, aimee, "MID-SMALL")
			isKind(t, err, provider.ErrEmpty)
			_, err = s.Reserve(ctx, "", provider.Person{ExternalID: "E-3", FirstName: "A", LastName: "B",
				Email: other.Email}, part)
			isKind(t, err, provider.ErrEmailInUse)
			changed := aimee
			changed.Email = other.Email
			isKind(t, s.UpdateUser(ctx, user.ID, changed), provider.ErrEmailInUse)
			changed.Email = "aimee@example.com"
			must(t, s.UpdateUser(ctx, user.ID, changed))
			_, err = s.FindUser(ctx, changed)
			must(t, err)
			_, err = s.FindUser(ctx, aimee)
			if switches.SearchByExternalID {
				must(t, err)
			} else {
				isKind(t, err, provider.ErrNotFound)
			}

			must(t, s.Revoke(ctx, second.CredentialRef))
			isKind(t, s.Revoke(ctx, second.CredentialRef), provider.ErrNotFound)
			must(t, s.DeleteUser(ctx, user.ID))
			isKind(t, s.DeleteUser(ctx, user.ID), provider.ErrNotFound)
			_, err = s.User(ctx, user.ID)
			isKind(t, err, provider.ErrNotFound)
			spent := 1
			if !switches.OnePerPartNumberAndPhone {
				spent = 2
			}
			equal(t, s.available(t, part), 5-spent)

			s.feedIsWhatCallbacksTold(t)
		})
	}
}

func reservedAs(r credential.Reserved) provider.Credential {
	return provider.Credential{ID: r.CredentialRef, PartNumber: part, MobileID: credential.MobileID{ID: r.Mobile.ID,
		Number: r.Mobile.Number}}
}

// feedIsWhatCallbacksTold compares the events as the feed lists them with the same events as callbacks brought them.
func (s *simulated) feedIsWhatCallbacksTold(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.sim.Run(ctx) })
	feed, err := s.Feed(ctx, "", start, 0)
	if err != nil || feed.More {
		t.Fatal(feed.More, err)
	}
	told := facts(feed.Users)
	var heard []provider.Fact
	for len(heard) < len(told) && ctx.Err() == nil {
		select {
		case body := <-s.sent:
			users, rejected, err := origo.Translate("acme-origo", body)
			if err != nil || len(rejected) > 0 {
				t.Error(rejected, err)
			}
			heard = append(heard, facts(users)...)
		case <-ctx.Done():
		}
	}
	stop()
	wg.Wait()
	sort := func(a, b provider.Fact) int { return bytes.Compare([]byte(fmt.Sprint(a)), []byte(fmt.Sprint(b))) }
	slices.SortFunc(heard, sort)
	slices.SortFunc(told, sort)
	if len(told) == 0 || !reflect.DeepEqual(heard, told) {
		t.Errorf("heard %d facts, the feed told %d", len(heard), len(told))
	}
}

func facts(users []provider.UserFacts) (all []provider.Fact) {
	for _, u := range users {
		all = append(all, u.Facts...)
	}
	return all
}

func TestFaultsOfTheSimulator(t *testing.T) {
	for _, tt := range []struct {
		fault  origosim.Fault
		want   error
		exists bool
	}{
		{origosim.Fault{Kind: "error", When: "before"}, provider.ErrUnavailable, false},
		{origosim.Fault{Kind: "error", When: "after"}, provider.ErrUnavailable, true},
		{origosim.Fault{Kind: "timeout", When: "after", Hold: time.Nanosecond}, provider.ErrUnavailable, true},
		{origosim.Fault{Kind: "throttle", When: "before"}, provider.ErrOverLimit, false},
	} {
		t.Run(fmt.Sprintf("%+v", tt.fault), func(t *testing.T) {
			s := simulate(t, origosim.Switches{CancelFreesID: true})
			s.fault("reserve", tt.fault)
			_, err := s.Reserve(t.Context(), "", aimee, part)
			isKind(t, err, tt.want)
			user, err := s.FindUser(t.Context(), aimee)
			if tt.exists != (err == nil) || tt.exists && len(user.Credentials) != 1 {
				t.Errorf("afterwards %d credentials, %v", len(user.Credentials), err)
			}
			// The budget of the token endpoint is not spent on faults of others.
			s.fault("token", origosim.Fault{Kind: "error"})
			if _, err := s.FindUser(t.Context(), aimee); errors.Is(err, provider.ErrUnavailable) {
				t.Error("a second token was asked for")
			}
		})
	}
}

func TestTimeoutIsTheCallersToo(t *testing.T) {
	s := simulate(t, origosim.Switches{})
	s.fault("search", origosim.Fault{Kind: "timeout"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.FindUser(ctx, aimee)
	isKind(t, err, provider.ErrUnavailable)
}
