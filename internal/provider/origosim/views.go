package origosim

import (
	"maps"
	"slices"
)

// State is what an administrator sees in the provider's own portal; its JSON is that of the world's GET /provider.
type State struct {
	Users       []UserState       `json:"users"`
	PartNumbers []PartNumberState `json:"partNumbers"`
}

// UserState is one user of the provider, in the order they were created.
type UserState struct {
	ID          string            `json:"id"`
	ExternalID  string            `json:"externalId"`
	Email       string            `json:"email"`
	Invitations []InvitationState `json:"invitations"`
}

// InvitationState is one invitation, oldest first. MobileID is the one it was sent for, nil when that is no longer this
// user's: freed, revoked, or given to another.
type InvitationState struct {
	ID       string  `json:"id"`
	Status   string  `json:"status"`
	MobileID *string `json:"mobileId"`
}

// PartNumberState lists the mobile IDs ("MID-SUB-CRD_FTPN_1001:56") of a part number by card number. A spent one that
// is on no phone any more is in none of the lists; one that was reassigned while on a phone is in two.
type PartNumberState struct {
	PartNumber string   `json:"partNumber"`
	Available  []string `json:"available"`
	Reserved   []string `json:"reserved"`
	Issued     []string `json:"issued"`
}

// Phone is a phone with the badges in its app; its JSON is that of the world's GET /phones/{deviceId}.
type Phone struct {
	DeviceID string  `json:"deviceId"`
	Badges   []Badge `json:"badges"`
}

// Badge is one mobile ID on a phone. Profile is the part number's friendly name at the provider.
type Badge struct {
	MobileID   string `json:"mobileId"`
	HolderName string `json:"holderName"`
	HasPicture bool   `json:"hasPicture"`
	Profile    string `json:"profile"`
}

// State returns the provider's users and pools.
func (s *Sim) State() (view State) {
	s.look(func(st *state) { view = st.view() })
	return view
}

func (st *state) view() State {
	view := State{Users: make([]UserState, 0, len(st.Users)), PartNumbers: []PartNumberState{}}
	for _, u := range st.Users {
		us := UserState{ID: u.shownID(), ExternalID: u.ExternalID, Email: u.Email,
			Invitations: []InvitationState{}}
		for _, inv := range u.Invitations {
			us.Invitations = append(us.Invitations, u.view(inv))
		}
		view.Users = append(view.Users, us)
	}
	reserved, issued := map[card]bool{}, map[card]bool{}
	for _, u := range st.Users {
		for _, c := range u.Credentials {
			if c.Container == "" || c.Issuing {
				reserved[card{c.PartNumber, c.Card}] = true
			} else {
				issued[card{c.PartNumber, c.Card}] = true
			}
		}
	}
	for _, p := range st.PartNumbers {
		ps := PartNumberState{PartNumber: p.PartNumber, Available: []string{}, Reserved: []string{}, Issued: []string{}}
		for _, n := range p.available() {
			ps.Available = append(ps.Available, mobileID(p.PartNumber, n))
		}
		for n := p.First; n < p.First+p.Count; n++ {
			if reserved[card{p.PartNumber, n}] {
				ps.Reserved = append(ps.Reserved, mobileID(p.PartNumber, n))
			}
			if issued[card{p.PartNumber, n}] {
				ps.Issued = append(ps.Issued, mobileID(p.PartNumber, n))
			}
		}
		view.PartNumbers = append(view.PartNumbers, ps)
	}
	return view
}

// Invitation returns the invitation of a code, false if no user has it.
func (s *Sim) Invitation(code string) (view InvitationState, found bool) {
	s.look(func(st *state) {
		view, found = InvitationState{}, false
		if u, inv := st.invitationByCode(code); inv != nil {
			view, found = u.view(inv), true
		}
	})
	return view, found
}

func (u *user) view(inv *invitation) InvitationState {
	view := InvitationState{ID: inv.shownID(), Status: inv.Status}
	if c := u.credential(inv.Credential); c != nil {
		view.MobileID = new(c.mobileID())
	}
	return view
}

// Phone returns one phone; one that never redeemed a code has no badges.
func (s *Sim) Phone(deviceID string) (phone Phone) {
	s.look(func(st *state) {
		phone = st.phone(st.app(deviceID))
		phone.DeviceID = deviceID
	})
	return phone
}

// Phones returns every phone the provider knows, by device id.
func (s *Sim) Phones() (phones []Phone) {
	s.look(func(st *state) {
		phones = []Phone{}
		for _, id := range slices.Sorted(maps.Keys(st.phones)) {
			if st.app(id) == id {
				phones = append(phones, st.phone(id))
			}
		}
	})
	return phones
}

func (st *state) phone(deviceID string) Phone {
	phone := Phone{DeviceID: deviceID, Badges: []Badge{}}
	for _, u := range st.phones.all(deviceID) {
		for _, c := range u.Credentials {
			if c.Container == deviceID && !c.Issuing && !slices.Contains(u.Inactive, deviceID) {
				phone.Badges = append(phone.Badges,
					Badge{MobileID: c.mobileID(), HolderName: u.GivenName + " " + u.FamilyName,
						HasPicture: u.hasPicture(), Profile: st.partNumber(c.PartNumber).FriendlyName})
			}
		}
	}
	return phone
}

type model struct{ name, manufacturer, os string }

// modelOf is the model of the phone that a container is on.
func (st *state) modelOf(container string) model {
	for old, successor := range st.Reinstalled {
		if successor == container {
			return st.modelOf(old)
		}
	}
	return modelOf(container)
}

// modelOf gives every phone a model of its own accord, the same one each time.
func modelOf(deviceID string) model {
	models := []model{{"Pixel 11", "Google", "17"}, {"iPhone 17", "Apple", "19.1"}, {"Galaxy S26", "Samsung", "16"}}
	sum := 0
	for _, b := range []byte(deviceID) {
		sum += int(b)
	}
	return models[sum%len(models)]
}
