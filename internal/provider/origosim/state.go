package origosim

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
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
const feedLength = 10_000

// counters are the last numbers given out.
type counters struct {
	LastUser, LastInvitation, LastCredential, LastPhoto, LastCallback int64
	LastStranger, LastLate                                            int64 `json:",omitempty"`
}

// state is everything the provider knows. It is changed by its methods only: they keep the indexes right, note what the
// journal has to be told (noted), and how to take the change back (undo).
type state struct {
	counters

	Users       []*user // by ID, which is the order of their creation
	PartNumbers []*partNumber
	DeadCodes   map[string]bool // invitation codes of deleted users
	Events      []cloudEvent    // oldest first
	Queue       []*callback     // in the order of sending
	Late        []*lateCall     // requests that are executed later, the first one first
	// Reinstalled names the container that has taken the place of another, see Sim.Reinstall.
	Reinstalled map[string]string
	// Revoked are the ids of credentials that are gone and answer 412 to another revoke.
	Revoked map[int64]bool
	// Switches are the positions now; byHand is what was set, as the journal has it, nil if nothing was.
	Switches Switches
	byHand   json.RawMessage

	users       map[int64]*user
	emails      index[string] // by folded address
	externalIDs index[string]
	codes       index[string]
	invitations index[int64]
	credentials index[int64]
	mobileIDs   index[string] // by those who have it, reserved or on a phone
	phones      index[string]

	// soonest is a moment before which no invitation expires.
	soonest time.Time

	noted noted
	undo  []func()
}

// noted is what one change has changed, by the keys of what is in the journal.
type noted struct {
	users       map[int64]bool
	gone        map[int64]bool
	partNumbers []*partNumber
	spent       []card
	deadCodes   []string
	emitted     []*callback
	tried       []*callback
	sent        []int64
	switches    json.RawMessage
	late        []*lateCall
	arrived     []int64
	reinstalled map[string]string
	revoked     []int64
}

type user struct {
	ID                                       int64
	ExternalID, GivenName, FamilyName, Email string
	Updated                                  time.Time
	Photo                                    *photo        `json:",omitempty"`
	Invitations                              []*invitation `json:",omitempty"`
	Credentials                              []*credential `json:",omitempty"`
	Containers                               []string      `json:",omitempty"` // phone ids, as they came
	Inactive                                 []string      `json:",omitempty"` // those of them that are no more in use
	Created                                  time.Time     `json:",omitzero"`
	GUID                                     bool          `json:",omitempty"` // its id is shown as one
	Unwell                                   string        `json:",omitempty"` // see Sim.MakeUnwell
	Partial                                  bool          `json:",omitempty"` // the next reading is to be
}

type photo struct {
	ID       int64
	Approved bool
	GUID     bool `json:",omitempty"`
}

type invitation struct {
	ID               int64
	Code, Status     string
	Created, Expires time.Time
	// Credential is the reserved credential, 0 if none was asked for. It may be gone: freed, revoked, or reassigned.
	Credential int64
	GUID       bool `json:",omitempty"`
}

// credential is one mobile ID in one user's hands: reserved, or issued when Container names a phone; while Issuing it
// is on its way there.
type credential struct {
	ID         int64
	PartNumber string
	Card       int
	Container  string    `json:",omitempty"`
	Issuing    bool      `json:",omitempty"`
	Reserved   time.Time `json:",omitzero"`
	Revoking   bool      `json:",omitempty"` // on a phone that is away
	Forbidden  bool      `json:",omitempty"` // see Sim.Forbid
	GUID       bool      `json:",omitempty"`
}

type partNumber struct {
	ID                                             int64
	PartNumber, FriendlyName, Format, FacilityCode string
	First, Count                                   int

	taken []int  // by card number from First on: how many credentials have it
	spent []bool // likewise: it was on a phone once
}

// card is one mobile ID, as the journal has it.
type card struct {
	PartNumber string
	Card       int
}

// index finds users by something that several may have.
type index[K comparable] map[K][]*user

func (ix index[K]) add(k K, u *user) { ix[k] = append(ix[k], u) }

// remove takes out one mention of the user.
func (ix index[K]) remove(k K, u *user) {
	list := ix[k]
	if i := slices.Index(list, u); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(ix, k)
		return
	}
	ix[k] = list
}

// all returns the users in the order of their creation, each once.
func (ix index[K]) all(k K) []*user {
	list := slices.SortedFunc(slices.Values(ix[k]), func(a, b *user) int { return cmp.Compare(a.ID, b.ID) })
	return slices.Compact(list)
}

// first returns the oldest of the users, nil if there is none.
func (ix index[K]) first(k K) (found *user) {
	for _, u := range ix[k] {
		if found == nil || u.ID < found.ID {
			found = u
		}
	}
	return found
}

func newState() *state {
	return &state{
		counters:  counters{LastUser: 103366, LastInvitation: 16247462, LastCredential: 887000, LastPhoto: 7000},
		DeadCodes: map[string]bool{}, users: map[int64]*user{}, emails: index[string]{}, externalIDs: index[string]{},
		codes: index[string]{}, invitations: index[int64]{}, credentials: index[int64]{}, mobileIDs: index[string]{},
		phones: index[string]{}, Reinstalled: map[string]string{}, Revoked: map[int64]bool{},
	}
}

// enter puts a user into every index, leave takes it out. What a user has is changed between the two: see edit.
func (st *state) enter(u *user) {
	st.users[u.ID] = u
	st.indexed(u, false)
	for _, inv := range u.Invitations {
		if inv.Status == pending {
			st.expiresAt(inv.Expires)
		}
	}
}

func (st *state) leave(u *user) {
	delete(st.users, u.ID)
	st.indexed(u, true)
}

func (st *state) indexed(u *user, not bool) {
	text, number, step := index[string].add, index[int64].add, 1
	if not {
		text, number, step = index[string].remove, index[int64].remove, -1
	}
	text(st.emails, fold(u.Email), u)
	text(st.externalIDs, u.ExternalID, u)
	for _, inv := range u.Invitations {
		text(st.codes, inv.Code, u)
		number(st.invitations, inv.ID, u)
	}
	for _, c := range u.Credentials {
		number(st.credentials, c.ID, u)
		text(st.mobileIDs, c.mobileID(), u)
		if p := st.partNumber(c.PartNumber); p != nil && p.has(c.Card) {
			p.taken[c.Card-p.First] += step
		}
	}
	for _, id := range u.Containers {
		text(st.phones, id, u)
	}
}

// edit lets fn change what the user has.
func (st *state) edit(u *user, fn func()) {
	before := u.clone()
	st.leave(u)
	fn()
	st.enter(u)
	st.noteUser(u.ID)
	st.undo = append(st.undo, func() {
		st.leave(u)
		*u = *before
		st.enter(u)
	})
}

func (st *state) noteUser(id int64) {
	if st.noted.users == nil {
		st.noted.users = map[int64]bool{}
	}
	st.noted.users[id] = true
}

// begin starts a change; rollback takes it back.
func (st *state) begin() {
	st.noted, st.undo = noted{}, nil
	last, events, queue, late := st.counters, st.Events, st.Queue, st.Late
	switches, byHand := st.Switches, st.byHand
	st.undo = append(st.undo, func() {
		st.counters, st.Events, st.Queue, st.Late = last, events, queue, late
		st.Switches, st.byHand = switches, byHand
	})
}

func (st *state) rollback() {
	for _, undo := range slices.Backward(st.undo) {
		undo()
	}
	st.begin()
}

func (u *user) clone() *user {
	c := *u
	if u.Photo != nil {
		c.Photo = new(*u.Photo)
	}
	c.Invitations, c.Credentials = slices.Clone(u.Invitations), slices.Clone(u.Credentials)
	for i, inv := range c.Invitations {
		c.Invitations[i] = new(*inv)
	}
	for i, cred := range c.Credentials {
		c.Credentials[i] = new(*cred)
	}
	c.Containers, c.Inactive = slices.Clone(u.Containers), slices.Clone(u.Inactive)
	return &c
}

// fold maps texts that differ in case only to one.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, s)
}

func (st *state) seed(p SeedPartNumber) {
	if st.partNumber(p.PartNumber) != nil {
		return
	}
	added := &partNumber{ID: int64(41 + len(st.PartNumbers)), PartNumber: p.PartNumber, FriendlyName: p.FriendlyName,
		Format: p.Format, FacilityCode: p.FacilityCode, First: p.First, Count: p.Count}
	st.addPartNumber(added)
	st.noted.partNumbers = append(st.noted.partNumbers, added)
}

func (st *state) addPartNumber(p *partNumber) {
	p.taken, p.spent = make([]int, p.Count), make([]bool, p.Count)
	before := st.PartNumbers
	st.PartNumbers = append(st.PartNumbers, p)
	st.undo = append(st.undo, func() { st.PartNumbers = before })
}

func (st *state) partNumber(name string) *partNumber {
	i := slices.IndexFunc(st.PartNumbers, func(p *partNumber) bool { return p.PartNumber == name })
	if i < 0 {
		return nil
	}
	return st.PartNumbers[i]
}

func (p *partNumber) has(card int) bool { return card >= p.First && card < p.First+p.Count }

func (p *partNumber) free(card int) bool {
	return p.has(card) && p.taken[card-p.First] == 0 && !p.spent[card-p.First]
}

// available lists the card numbers that can be reserved, lowest first.
func (p *partNumber) available() []int {
	var free []int
	for n := p.First; n < p.First+p.Count; n++ {
		if p.free(n) {
			free = append(free, n)
		}
	}
	return free
}

// spend notes that a card number is on a phone: it is never available again.
func (st *state) spend(name string, number int) {
	p := st.partNumber(name)
	if p == nil || !p.has(number) || p.spent[number-p.First] {
		return
	}
	p.spent[number-p.First] = true
	st.noted.spent = append(st.noted.spent, card{name, number})
	st.undo = append(st.undo, func() { p.spent[number-p.First] = false })
}

func (st *state) parseMobileID(mobileID string) (*partNumber, int, bool) {
	name, number, _ := strings.Cut(mobileID, ":")
	p := st.partNumber(name)
	card, err := strconv.Atoi(number)
	if p == nil || err != nil || !p.has(card) {
		return nil, 0, false
	}
	return p, card, true
}

func (st *state) user(id int64) *user { return st.users[id] }

func (st *state) userByEmail(email string) *user { return st.emails.first(fold(email)) }

func (st *state) userByExternalID(id string) *user { return st.externalIDs.first(id) }

func (st *state) addUser(u user, now time.Time) *user {
	st.LastUser++
	u.ID, u.Updated, u.Created = st.LastUser, now, now
	u.GUID, u.Partial = st.Switches.GUIDs, st.Switches.PartialReadOnce
	st.Users = append(st.Users, &u)
	st.enter(&u)
	st.noteUser(u.ID)
	st.undo = append(st.undo, func() {
		st.leave(&u)
		st.Users = st.Users[:len(st.Users)-1]
	})
	return &u
}

func (st *state) inventUser(externalID string, now time.Time) *user {
	email := "user-" + strconv.FormatInt(st.LastUser+1, 10) + "@elsewhere.invalid"
	return st.addUser(user{ExternalID: externalID, GivenName: "A", FamilyName: "Stranger", Email: email}, now)
}

// deleteUser forgets a user. The mobile IDs not on a phone are free again, the others were spent when they were issued.
func (st *state) deleteUser(u *user) {
	for _, inv := range u.Invitations {
		st.DeadCodes[inv.Code] = true
		st.noted.deadCodes = append(st.noted.deadCodes, inv.Code)
	}
	at, _ := st.place(u.ID)
	st.Users = slices.Delete(st.Users, at, at+1)
	st.leave(u)
	if st.noted.gone == nil {
		st.noted.gone = map[int64]bool{}
	}
	st.noted.gone[u.ID] = true
	st.undo = append(st.undo, func() {
		for _, inv := range u.Invitations {
			delete(st.DeadCodes, inv.Code)
		}
		st.Users = slices.Insert(st.Users, at, u)
		st.enter(u)
	})
}

// place is where in Users the one with this ID is or would be.
func (st *state) place(id int64) (int, bool) {
	return slices.BinarySearchFunc(st.Users, id, func(u *user, id int64) int { return cmp.Compare(u.ID, id) })
}

func (st *state) addCredential(u *user, now time.Time, p *partNumber, card int) *credential {
	st.LastCredential++
	c := &credential{ID: st.LastCredential, PartNumber: p.PartNumber, Card: card, Reserved: now.Truncate(time.Second),
		GUID: st.Switches.GUIDs}
	st.edit(u, func() { u.Credentials = append(u.Credentials, c) })
	return c
}

func (st *state) addInvitation(u *user, now time.Time, credential int64) *invitation {
	st.LastInvitation++
	created := now.Truncate(time.Second) // as the interface shows it
	inv := &invitation{ID: st.LastInvitation, Code: newCode(), Status: pending, Created: created,
		Expires: created.Add(invitationLife), Credential: credential, GUID: st.Switches.GUIDs}
	st.edit(u, func() { u.Invitations = append(u.Invitations, inv) })
	return inv
}

// pending finds the invitation of a code that can still be redeemed or declined: one that reserved a mobile ID must
// still have it.
func (st *state) pending(code string) (*user, *invitation, error) {
	code = strings.ToUpper(strings.TrimSpace(code))
	u, inv := st.invitationByCode(code)
	switch {
	case inv != nil && inv.Status == pending && (inv.Credential == 0 || u.credential(inv.Credential) != nil):
		return u, inv, nil
	case inv != nil && inv.Status == acknowledged:
		return nil, nil, ErrTaken
	case inv != nil || st.DeadCodes[code]:
		return nil, nil, ErrDead
	}
	return nil, nil, ErrUnknownCode
}

func (st *state) invitationByCode(code string) (*user, *invitation) {
	return st.codes.first(code).invitation(func(inv *invitation) bool { return inv.Code == code })
}

func (st *state) invitation(id int64) (*user, *invitation) {
	return st.invitations.first(id).invitation(func(inv *invitation) bool { return inv.ID == id })
}

// invitation returns the user with the invitation, two nils if there is none.
func (u *user) invitation(match func(*invitation) bool) (*user, *invitation) {
	if u != nil {
		if i := slices.IndexFunc(u.Invitations, match); i >= 0 {
			return u, u.Invitations[i]
		}
	}
	return nil, nil
}

// holds says whether a mobile ID of the part number is on the phone.
func (st *state) holds(deviceID, partNumber string) bool {
	return slices.ContainsFunc(st.phones[deviceID], func(u *user) bool {
		return slices.ContainsFunc(u.Credentials, func(c *credential) bool {
			return c.Container == deviceID && c.PartNumber == partNumber
		})
	})
}

// expiresAt makes sure that soonest is no later than at.
func (st *state) expiresAt(at time.Time) {
	if st.soonest.IsZero() || at.Before(st.soonest) {
		st.soonest = at
	}
}

// anyExpired looks at the invitations only when the soonest is due, or was.
func (st *state) anyExpired(now time.Time) bool {
	if st.soonest.IsZero() || now.Before(st.soonest) {
		return false
	}
	st.soonest = time.Time{}
	for _, u := range st.Users {
		for _, inv := range u.Invitations {
			if inv.Status == pending {
				st.expiresAt(inv.Expires)
			}
		}
	}
	return !st.soonest.IsZero() && !now.Before(st.soonest)
}

func (inv *invitation) due(now time.Time) bool {
	return inv.Status == pending && !now.Before(inv.Expires)
}

// credential returns the user's credential with this ID, nil if there is none.
func (u *user) credential(id int64) *credential {
	if u != nil {
		for _, c := range u.Credentials {
			if c.ID == id {
				return c
			}
		}
	}
	return nil
}

func (st *state) removeCredentials(u *user, match func(*credential) bool) {
	if slices.ContainsFunc(u.Credentials, match) {
		st.edit(u, func() { u.Credentials = slices.DeleteFunc(u.Credentials, match) })
	}
}

// emit records one change's events for the events API and queues them as one callback.
func (st *state) emit(now time.Time, events ...cloudEvent) {
	for i := range events {
		events[i].SpecVersion, events[i].ID, events[i].Time = "1.0", newUUID(), now.Format(eventTime)
	}
	st.LastCallback++
	c := &callback{ID: st.LastCallback, Events: events}
	st.queue(c)
	st.noted.emitted = append(st.noted.emitted, c)
}

func (st *state) queue(c *callback) {
	st.Events = append(st.Events, c.Events...)
	if n := len(st.Events) - feedLength; n > 0 {
		st.Events = st.Events[n:]
	}
	st.Queue = append(st.Queue, c)
}

// sent takes a callback out of the queue.
func (st *state) sent(id int64) {
	queue := slices.DeleteFunc(slices.Clone(st.Queue), func(c *callback) bool { return c.ID == id })
	if len(queue) < len(st.Queue) {
		st.noted.sent = append(st.noted.sent, id)
	}
	st.Queue = queue
}

// tried notes a failed attempt; the next is not made before the moment given.
func (st *state) tried(id int64, tries int, notBefore time.Time) {
	i := slices.IndexFunc(st.Queue, func(c *callback) bool { return c.ID == id })
	if i < 0 {
		return
	}
	again := *st.Queue[i]
	again.Tries, again.NotBefore = tries, notBefore
	st.Queue = slices.Clone(st.Queue)
	st.Queue[i] = &again
	st.noted.tried = append(st.noted.tried, &callback{ID: id, Tries: tries, NotBefore: notBefore})
}

// renumber gives a credential another id. It is to be called within an edit of its user.
func (st *state) renumber(u *user, c *credential) {
	old := c.ID
	st.LastCredential++
	c.ID, c.GUID = st.LastCredential, st.Switches.GUIDs
	for _, inv := range u.Invitations {
		if inv.Credential == old {
			inv.Credential = c.ID
		}
	}
}

// remember notes that a credential was revoked.
func (st *state) remember(id int64) {
	if st.Revoked[id] {
		return
	}
	st.Revoked[id] = true
	st.noted.revoked = append(st.noted.revoked, id)
	st.undo = append(st.undo, func() { delete(st.Revoked, id) })
}

// app is the container that is in use on the phone which a container's id stands for.
func (st *state) app(deviceID string) string {
	for st.Reinstalled[deviceID] != "" {
		deviceID = st.Reinstalled[deviceID]
	}
	return deviceID
}

func (st *state) reinstall(old, successor string) {
	st.Reinstalled[old] = successor
	if st.noted.reinstalled == nil {
		st.noted.reinstalled = map[string]string{}
	}
	st.noted.reinstalled[old] = successor
	st.undo = append(st.undo, func() { delete(st.Reinstalled, old) })
}

// successor is the id of the container after another on one phone; HID's are numbers.
func successor(deviceID string) string {
	if n, err := strconv.ParseInt(deviceID, 10, 64); err == nil {
		return strconv.FormatInt(n+1_000_000, 10)
	}
	base, number, found := strings.Cut(deviceID, "_")
	n, _ := strconv.Atoi(number)
	if !found || n == 0 {
		base, n = deviceID, 1
	}
	return base + "_" + strconv.Itoa(n+1)
}

// delay adds a request that is executed later.
func (st *state) delay(c *lateCall) {
	st.LastLate++
	c.ID = st.LastLate
	st.enqueue(c)
	st.noted.late = append(st.noted.late, c)
}

func (st *state) enqueue(c *lateCall) {
	st.Late = append(slices.Clone(st.Late), c)
	slices.SortStableFunc(st.Late, func(a, b *lateCall) int { return a.At.Compare(b.At) })
}

// arrived takes a request that was late out of those to be executed.
func (st *state) arrived(id int64) {
	st.Late = slices.DeleteFunc(slices.Clone(st.Late), func(c *lateCall) bool { return c.ID == id })
	st.noted.arrived = append(st.noted.arrived, id)
}

// change returns what the journal has to be told of the change under way, nil if nothing.
func (st *state) change() *entry {
	n := &st.noted
	e := &entry{Last: st.counters, PartNumbers: n.partNumbers, Spent: n.spent, DeadCodes: n.deadCodes,
		Emitted: n.emitted,
		Tried:   n.tried, Sent: n.sent, Gone: slices.Sorted(maps.Keys(n.gone)),
		Switches: n.switches, Late: n.late, Arrived: n.arrived, Reinstalled: n.reinstalled, Revoked: n.revoked}
	for _, id := range slices.Sorted(maps.Keys(n.users)) {
		if u := st.users[id]; u != nil {
			e.Users = append(e.Users, u)
		}
	}
	if len(e.PartNumbers)+len(e.Spent)+len(e.DeadCodes)+len(e.Emitted)+len(e.Tried)+len(e.Sent)+len(e.Gone)+
		len(e.Users)+len(e.Switches)+len(e.Late)+len(e.Arrived)+len(e.Reinstalled)+len(e.Revoked) == 0 {
		return nil
	}
	return e
}

// Ids are numbers. A record that was made while HID's are GUIDs shows its own in that form, which holds the number, so
// that either form finds it.
const (
	userGUID       = "8d0c5ae2-51b7-4f6e-9a3c-"
	invitationGUID = "3f92b1d4-0c66-4a58-8e17-"
	credentialGUID = "c57e8a90-7d21-4b3f-b6d5-"
	photoGUID      = "e1460f3b-92aa-4d7c-a8f4-"
)

// shown is an id as the interface has it: a number, or a text.
func shown(id int64, guid bool, prefix string) any {
	if guid {
		return fmt.Sprintf("%s%012x", prefix, id)
	}
	return id
}

func (u *user) shown() any         { return shown(u.ID, u.GUID, userGUID) }
func (inv *invitation) shown() any { return shown(inv.ID, inv.GUID, invitationGUID) }
func (c *credential) shown() any   { return shown(c.ID, c.GUID, credentialGUID) }
func (p *photo) shown() any        { return shown(p.ID, p.GUID, photoGUID) }

func (u *user) shownID() string         { return fmt.Sprint(u.shown()) }
func (inv *invitation) shownID() string { return fmt.Sprint(inv.shown()) }
func (c *credential) shownID() string   { return fmt.Sprint(c.shown()) }

// parseID is the number of an id in either form, 0, which is no id, for any other text.
func parseID(text string) int64 {
	base := 10
	for _, prefix := range []string{userGUID, invitationGUID, credentialGUID, photoGUID} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text, base = rest, 16
		}
	}
	n, _ := strconv.ParseInt(text, base, 64)
	return n
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
