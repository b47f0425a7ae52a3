package origosim

import (
	"crypto/rand"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Statuses of an invitation.
const (
	pending      = "PENDING"
	acknowledged = "ACKNOWLEDGED"
	cancelled    = "CANCELLED"
	expired      = "EXPIRED"
)

// invitationLife is how long an invitation can be redeemed. At HID the organisation sets it.
const invitationLife = 7 * 24 * time.Hour

// feedLength is how many events the events API remembers.
const feedLength = 2000

// state is everything the provider knows; it is saved as JSON.
type state struct {
	LastUser, LastInvitation, LastCredential, LastPhoto int64

	Users       []*user
	PartNumbers []*partNumber
	DeadCodes   []string     // invitation codes of deleted users
	Events      []cloudEvent // oldest first
	Queue       []callback   // in the order of sending
}

type user struct {
	ID                                       int64
	ExternalID, GivenName, FamilyName, Email string
	Updated                                  time.Time
	Photo                                    *photo `json:",omitempty"`
	Invitations                              []*invitation
	Credentials                              []*credential
	Containers                               []string // phone ids, in the order they were first seen
}

type photo struct {
	ID       int64
	Approved bool
}

type invitation struct {
	ID               int64
	Code, Status     string
	Created, Expires time.Time
	// Credential is the reserved credential, 0 if none was asked for. It may be gone: freed, revoked, or reassigned.
	Credential int64
}

// credential is one mobile ID in one user's hands: reserved, or issued when Container names a phone; while Issuing it is on its way
// there.
type credential struct {
	ID         int64
	PartNumber string
	Card       int
	Container  string `json:",omitempty"`
	Issuing    bool   `json:",omitempty"`
}

type partNumber struct {
	ID                                             int64
	PartNumber, FriendlyName, Format, FacilityCode string
	First, Count                                   int
	Spent                                          map[int]bool // card numbers that were ever on a phone
}

func newState() *state {
	return &state{LastUser: 103366, LastInvitation: 16247462, LastCredential: 887000, LastPhoto: 7000}
}

func (st *state) seed(p SeedPartNumber) {
	if st.partNumber(p.PartNumber) != nil {
		return
	}
	st.PartNumbers = append(st.PartNumbers, &partNumber{ID: int64(41 + len(st.PartNumbers)), PartNumber: p.PartNumber,
		FriendlyName: p.FriendlyName, Format: p.Format, FacilityCode: p.FacilityCode, First: p.First, Count: p.Count, Spent: map[int]bool{}})
}

func (st *state) partNumber(name string) *partNumber {
	i := slices.IndexFunc(st.PartNumbers, func(p *partNumber) bool { return p.PartNumber == name })
	if i < 0 {
		return nil
	}
	return st.PartNumbers[i]
}

// available lists the card numbers that can be reserved, lowest first. What is reserved or issued is read off the
// users, so the pool cannot drift from them.
func (st *state) available(p *partNumber) []int {
	taken := map[int]bool{}
	for _, u := range st.Users {
		for _, c := range u.Credentials {
			taken[c.Card] = taken[c.Card] || c.PartNumber == p.PartNumber
		}
	}
	var free []int
	for n := p.First; n < p.First+p.Count; n++ {
		if !taken[n] && !p.Spent[n] {
			free = append(free, n)
		}
	}
	return free
}

func (st *state) parseMobileID(mobileID string) (*partNumber, int, bool) {
	name, number, _ := strings.Cut(mobileID, ":")
	p := st.partNumber(name)
	card, err := strconv.Atoi(number)
	if p == nil || err != nil || card < p.First || card >= p.First+p.Count {
		return nil, 0, false
	}
	return p, card, true
}

func (st *state) user(id int64) *user {
	return st.findUser(func(u *user) bool { return u.ID == id })
}

func (st *state) userByEmail(email string) *user {
	return st.findUser(func(u *user) bool { return strings.EqualFold(u.Email, email) })
}

func (st *state) userByExternalID(id string) *user {
	return st.findUser(func(u *user) bool { return u.ExternalID == id })
}

func (st *state) findUser(match func(*user) bool) *user {
	if i := slices.IndexFunc(st.Users, match); i >= 0 {
		return st.Users[i]
	}
	return nil
}

func (st *state) addUser(u user, now time.Time) *user {
	st.LastUser++
	u.ID, u.Updated = st.LastUser, now
	st.Users = append(st.Users, &u)
	return &u
}

func (st *state) inventUser(externalID string, now time.Time) *user {
	email := "user-" + strconv.FormatInt(st.LastUser+1, 10) + "@elsewhere.invalid"
	return st.addUser(user{ExternalID: externalID, GivenName: "Somebody", FamilyName: "Else", Email: email}, now)
}

// deleteUser forgets a user. The mobile IDs not on a phone are free again, the others were spent when they were issued.
func (st *state) deleteUser(u *user) {
	for _, inv := range u.Invitations {
		st.DeadCodes = append(st.DeadCodes, inv.Code)
	}
	st.Users = slices.DeleteFunc(st.Users, func(x *user) bool { return x == u })
}

func (st *state) addCredential(u *user, p *partNumber, card int) *credential {
	st.LastCredential++
	c := &credential{ID: st.LastCredential, PartNumber: p.PartNumber, Card: card}
	u.Credentials = append(u.Credentials, c)
	return c
}

func (st *state) addInvitation(u *user, now time.Time, credential int64) *invitation {
	st.LastInvitation++
	created := now.Truncate(time.Second) // as the interface shows it
	inv := &invitation{ID: st.LastInvitation, Code: newCode(), Status: pending, Created: created,
		Expires: created.Add(invitationLife), Credential: credential}
	u.Invitations = append(u.Invitations, inv)
	return inv
}

// pending finds the invitation of a code that can still be redeemed or declined: one that reserved a mobile ID must
// still have it.
func (st *state) pending(code string) (*user, *invitation, error) {
	code = strings.ToUpper(strings.TrimSpace(code))
	for _, u := range st.Users {
		for _, inv := range u.Invitations {
			switch {
			case inv.Code != code:
			case inv.Status == pending && (inv.Credential == 0 || u.credential(inv.Credential) != nil):
				return u, inv, nil
			case inv.Status == acknowledged:
				return nil, nil, ErrTaken
			default:
				return nil, nil, ErrDead
			}
		}
	}
	if slices.Contains(st.DeadCodes, code) {
		return nil, nil, ErrDead
	}
	return nil, nil, ErrUnknownCode
}

func (st *state) invitation(id int64) (*user, *invitation) {
	for _, u := range st.Users {
		for _, inv := range u.Invitations {
			if inv.ID == id {
				return u, inv
			}
		}
	}
	return nil, nil
}

// holds says whether a mobile ID of the part number is on the phone.
func (st *state) holds(deviceID, partNumber string) bool {
	return st.findUser(func(u *user) bool {
		return slices.ContainsFunc(u.Credentials, func(c *credential) bool {
			return c.Container == deviceID && c.PartNumber == partNumber
		})
	}) != nil
}

func (st *state) anyExpired(now time.Time) bool {
	return st.findUser(func(u *user) bool {
		return slices.ContainsFunc(u.Invitations, func(inv *invitation) bool { return inv.due(now) })
	}) != nil
}

func (inv *invitation) due(now time.Time) bool {
	return inv.Status == pending && !now.Before(inv.Expires)
}

func (u *user) credential(id int64) *credential {
	for _, c := range u.Credentials {
		if c.ID == id {
			return c
		}
	}
	return nil
}

func (u *user) removeCredentials(match func(*credential) bool) {
	u.Credentials = slices.DeleteFunc(u.Credentials, match)
}

func (u *user) addContainer(deviceID string) {
	if !slices.Contains(u.Containers, deviceID) {
		u.Containers = append(u.Containers, deviceID)
	}
}

func (u *user) hasPicture() bool { return u.Photo != nil && u.Photo.Approved }

func (c *credential) mobileID() string { return mobileID(c.PartNumber, c.Card) }

func mobileID(partNumber string, card int) string { return partNumber + ":" + strconv.Itoa(card) }

// newCode makes an invitation code: four groups of four, without the characters people confuse.
func newCode() string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	code := make([]byte, 0, 19)
	for i := range 16 {
		if i > 0 && i%4 == 0 {
			code = append(code, '-')
		}
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(letters)))) // crypto/rand never fails
		code = append(code, letters[n.Int64()])
	}
	return string(code)
}
