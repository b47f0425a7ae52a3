package credential

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// inState builds a credential as it is in a state: a stage of a live one, or a final status.
func inState(state string) Credential {
	c := Credential{
		ID: "c1", HolderID: "h1", ProfileID: "hq", ProfileName: "HQ", Account: "acme",
		Status: StatusActive, Want: WantLive, Reservation: ReservationHeld, InvitationRef: "i1", CredentialRef: "k1",
		Mobile:     &MobileID{ID: "P:56", Number: "56"},
		Invitation: Invitation{Status: InvitationSent, Code: "AAAA-BBBB-CCCC-DDDD"},
		Revision:   3,
	}
	switch Stage(state) {
	case StageInvited, StageActivating, StageActivated:
		c.Stage = Stage(state)
		if c.Stage != StageInvited {
			c.Invitation.Status, c.Invitation.Code = InvitationAccepted, ""
		}
		if c.Stage == StageActivated {
			c.Device = &Device{ID: "D"}
		}
	default:
		c.Status, c.Want, c.Reservation = Status(state), WantGone, ReservationReleased
		c.Invitation.Code = ""
	}
	return c
}

// every cell of the design's matrix, written out: the state after, then the flags. "-" is no change, "409" a refusal.
var cells = map[EventKind]map[string]string{
	EventMailed:   {"invited": "invited", "activating": "-", "activated": "-", "final": "late"},
	EventBounced:  {"invited": "invited", "activating": "-", "activated": "-", "final": "late"},
	EventResent:   {"invited": "invited", "activating": "-", "activated": "-", "final": "late"},
	EventAccepted: {"invited": "activating", "activating": "-", "activated": "-", "final": "anomaly, release"},
	EventActivated: {"invited": "activated", "activating": "activated", "activated": "-",
		"final": "anomaly, release"},
	EventDeclined:          {"invited": "declined", "activating": "anomaly", "activated": "anomaly", "final": "late"},
	EventExpired:           {"invited": "expired", "activating": "anomaly", "activated": "anomaly", "final": "late"},
	EventGivenToAnother:    {"invited": "reassigned", "activating": "anomaly", "activated": "anomaly", "final": "late"},
	EventRevokedAtProvider: {"invited": "revoked", "activating": "revoked", "activated": "revoked", "final": "-"},
	EventMissingAtProvider: {"invited": "reassigned", "activating": "anomaly", "activated": "anomaly", "final": "-"},
	EventRevoke:            {"invited": "revoked", "activating": "revoked", "activated": "revoked", "final": "-"},
	EventLost: {"invited": "lost", "activating": "lost", "activated": "lost", "final": "409",
		"revoked": "note"},
	EventStolen: {"invited": "stolen", "activating": "stolen", "activated": "stolen", "final": "409",
		"revoked": "note"},
	EventVisitEnded:       {"invited": "expired", "activating": "expired", "activated": "expired", "final": "-"},
	EventRefused:          {"invited": "failed", "activating": "-", "activated": "-", "final": "-"},
	EventDeviceHasProfile: {"invited": "revoked", "activating": "revoked", "activated": "revoked", "final": "-"},
	EventSpentIDOffered:   {"invited": "anomaly", "activating": "anomaly", "activated": "anomaly", "final": "anomaly"},
}

func TestEveryCellOfTheMatrix(t *testing.T) {
	states := []string{"invited", "activating", "activated"}
	for _, s := range Statuses[1:] {
		states = append(states, string(s))
	}
	if len(cells) != len(matrix) {
		t.Fatalf("the test has %d events, the matrix %d", len(cells), len(matrix))
	}
	for kind, row := range cells {
		for _, state := range states {
			want, named := row[state]
			if !named {
				want = row["final"]
			}
			t.Run(fmt.Sprintf("%s/%s", kind, state), func(t *testing.T) {
				before := inState(state)
				after, entry, err := Apply(before, Event{Kind: kind, Device: &Device{ID: "D"}, Reason: "why"}, noon)
				switch want {
				case "409":
					if !errors.Is(err, Refuse(CodeInvalidState, "")) || entry != nil {
						t.Fatalf("got entry %v, error %v; want invalid_state", entry, err)
					}
					return
				case "-":
					if err != nil || entry != nil || after.Revision != before.Revision || after.State() != state {
						t.Fatalf("got %s, entry %v, error %v; want no change", after.State(), entry, err)
					}
					return
				}
				if err != nil || entry == nil {
					t.Fatalf("got entry %v, error %v", entry, err)
				}
				if after.Revision != before.Revision+1 || entry.Revision != after.Revision || entry.ID != "c1-4" ||
					entry.From != state || entry.To != after.State() {
					t.Errorf("revision %d, entry %+v", after.Revision, entry)
				}
				to := state
				if !strings.Contains("late anomaly note", strings.Split(want, ",")[0]) {
					to = want
				}
				if after.State() != to {
					t.Errorf("state %s, want %s", after.State(), to)
				}
				if entry.Late != (want == "late") || entry.Anomaly != strings.HasPrefix(want, "anomaly") {
					t.Errorf("late %v, anomaly %v; want %s", entry.Late, entry.Anomaly, want)
				}
				if strings.HasSuffix(want, "release") && after.Reservation != ReservationHeld {
					t.Errorf("reservation %s, so it is not released again", after.Reservation)
				}
			})
		}
	}
}

func TestActivationOnAnotherDeviceIsAnAnomaly(t *testing.T) {
	after, entry, err := Apply(inState("activated"), Event{Kind: EventActivated, Device: &Device{ID: "other"}}, noon)
	if err != nil || entry == nil || !entry.Anomaly || after.Device.ID != "D" {
		t.Fatalf("device %v, entry %+v, error %v", after.Device, entry, err)
	}
}

func TestTheCodeIsErasedAtAcceptanceAndEnd(t *testing.T) {
	for kind, row := range cells {
		after, _, err := Apply(inState("invited"), Event{Kind: kind, Device: &Device{ID: "D"}}, noon)
		if err != nil {
			t.Fatal(err)
		}
		if still := row["invited"] == "invited" || row["invited"] == "anomaly"; (after.Invitation.Code != "") != still {
			t.Errorf("%s: code kept: %v", kind, !still)
		}
	}
}

func TestWhatBecomesOfTheInvitation(t *testing.T) {
	for _, tc := range []struct {
		state string
		event EventKind
		want  InvitationStatus
	}{
		{"invited", EventDeclined, InvitationDeclined}, {"invited", EventExpired, InvitationExpired},
		{"invited", EventVisitEnded, InvitationCancelled}, {"invited", EventRevoke, InvitationCancelled}, {"invited",
			EventGivenToAnother, InvitationCancelled},
		{"activated", EventVisitEnded, InvitationAccepted}, {"activating", EventRevoke, InvitationAccepted}, {"invited",
			EventBounced, InvitationBounced},
		{"invited", EventResent, InvitationPending}, {"invited", EventMailed, InvitationSent}, {"invited",
			EventAccepted, InvitationAccepted},
	} {
		after, _, err := Apply(inState(tc.state), Event{Kind: tc.event}, noon)
		if err != nil || after.Invitation.Status != tc.want {
			t.Errorf("%s × %s: %s, %v; want %s", tc.state, tc.event, after.Invitation.Status, err, tc.want)
		}
	}
}

// In whatever order events come: an end is for ever, an activated credential leaves its device only by what may
// end it, and what is final wants to be gone.
func TestNoSequenceOfEventsBreaksTheRules(t *testing.T) {
	kinds := make([]EventKind, 0, len(matrix))
	for k := range cells {
		kinds = append(kinds, k)
	}
	mayEndActivated := map[EventKind]bool{
		EventRevokedAtProvider: true, EventRevoke: true, EventLost: true, EventStolen: true, EventVisitEnded: true,
		EventDeviceHasProfile: true,
	}
	rapid.Check(t, func(t *rapid.T) {
		c := inState("invited")
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			e := Event{Kind: rapid.SampledFrom(kinds).Draw(t, "event"),
				Device: &Device{ID: rapid.SampledFrom([]string{"D", "E"}).Draw(t, "device")}}
			after, entry, err := Apply(c, e, noon)
			if err != nil && after.Revision != c.Revision {
				t.Fatalf("%s: refused and changed", e.Kind)
			}
			if !c.IsLive() && after.Status != c.Status {
				t.Fatalf("%s: final %s became %s", e.Kind, c.Status, after.Status)
			}
			if c.Stage == StageActivated && after.IsLive() && *after.Device != *c.Device {
				t.Fatalf("%s: moved from device %s to %s", e.Kind, c.Device.ID, after.Device.ID)
			}
			if c.Stage == StageActivated && !after.IsLive() && !mayEndActivated[e.Kind] {
				t.Fatalf("%s ended an activated credential", e.Kind)
			}
			if (after.Want == WantLive) != after.IsLive() {
				t.Fatalf("%s: %s wants %s", e.Kind, after.Status, after.Want)
			}
			if (entry != nil) != (after.Revision == c.Revision+1) {
				t.Fatalf("%s: revision %d to %d, entry %v", e.Kind, c.Revision, after.Revision, entry)
			}
			c = after
		}
	})
}
