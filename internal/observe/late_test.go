package observe_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/observe"
	"github.com/mobilecred/mobilecred/internal/provider"
)

func TestLate(t *testing.T) {
	const none, found, undecided = "", "found", "undecided"
	// waiting needs a mobile ID, and one doubt of it was settled without its answer.
	waiting := credential.Credential{
		ID: "c2", Account: "acme", PartNumber: part, Want: credential.WantLive,
		Unanswered: []credential.Doubt{{ID: "d1", At: noon, UserID: "u1", Invitations: []string{"i0"}}},
	}
	doubting := func(userID string, invitations ...string) credential.Credential {
		c := waiting
		c.ID, c.Unanswered, c.Reservation = "c3", nil, credential.ReservationInDoubt
		c.Doubt = &credential.Doubt{ID: "d2", At: noon.Add(time.Minute), UserID: userID, Invitations: invitations}
		return c
	}
	invited := func(id string, after time.Duration) *provider.User {
		return &provider.User{ID: "u1", ExternalID: "E-1", Invitations: []provider.Invitation{
			{ID: id, Status: provider.InvitationPending, CreatedAt: noon.Add(after)}}}
	}
	for _, tt := range []struct {
		name string
		row  credential.Credential
		rows []credential.Credential
		user *provider.User
		want string
	}{
		{"an invitation made late", waiting, nil, invited("i9", 14*time.Minute), found},
		{"one that was there before the doubt", waiting, nil, invited("i0", 0), none},
		{"one made long before the doubt", waiting, nil, invited("i9", -6*time.Minute), none},
		{"one made too late", waiting, nil, invited("i9", 16*time.Minute), none},
		{"one of which another row knows", waiting, []credential.Credential{row("invited")}, invited("i1", 0), none},
		{"one that a row has put aside", waiting, []credential.Credential{with(row("invited"),
			func(c *credential.Credential) { c.Aside = []credential.Reserved{{InvitationRef: "i9"}} })},
			invited("i9", 0), none},
		{"one that may answer a doubt that is open", waiting, []credential.Credential{doubting("u1")},
			invited("i9", time.Minute), undecided},
		{"one that was there before the open doubt", waiting, []credential.Credential{doubting("u1", "i9")},
			invited("i9", 0), found},
		{"an open doubt about another user", waiting, []credential.Credential{doubting("u2")},
			invited("i9", time.Minute), found},
		{"another user", waiting, nil, changed(invited("i9", 0), func(u *provider.User) { u.ID = "u2" }), none},
		{"a doubt that found its answer", with(waiting, func(c *credential.Credential) {
			c.Unanswered = []credential.Doubt{{ID: "d1", At: noon, Explained: true}}
		}), nil, invited("i9", 0), none},
		{"a mobile ID with an invitation made late", waiting, nil, changed(user("", reserved), func(u *provider.User) {
			u.Invitations = invited("i9", 14*time.Minute).Invitations
		}), found},
		{"a mobile ID of an invitation that was cancelled", waiting, nil,
			changed(user("", reserved), func(u *provider.User) {
				u.Invitations = invited("i9", 0).Invitations
				u.Invitations[0].Status = cancelled
			}), found},
		{"a mobile ID that an invitation made later accounts for", waiting, nil,
			changed(user("", reserved), func(u *provider.User) {
				u.Invitations = append(invited("i9", 0).Invitations, invited("i10", time.Hour).Invitations...)
				u.Invitations[0].Status = cancelled
			}), none},
		{"a mobile ID with one made too late", waiting, nil, changed(user("", reserved), func(u *provider.User) {
			u.Invitations = invited("i9", 16*time.Minute).Invitations
		}), none},
		{"a mobile ID on a phone", waiting, nil, user("", onPhone), none},
		{"a mobile ID of another part number", with(waiting, func(c *credential.Credential) { c.PartNumber = "other" }),
			nil, user("", reserved), none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			late, explained, open := observe.Late(tt.row, append(tt.rows, tt.row), *tt.user)
			got := none
			switch {
			case len(late) == 1 && reflect.DeepEqual(explained, []string{"d1"}):
				got = found
			case len(late) != 0 || len(explained) != 0:
				t.Fatalf("%+v, explained %v", late, explained)
			case open:
				got = undecided
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func changed(u *provider.User, edit func(*provider.User)) *provider.User {
	edit(u)
	return u
}
