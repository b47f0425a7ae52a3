package origo

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// id is one of HID's identifiers, which may arrive as a number or as a string. Public clients have received texts such
// as "undefined" in place of one; those become "".
type id string

// UnmarshalJSON implements json.Unmarshaler.
func (i *id) UnmarshalJSON(data []byte) error {
	text := string(data)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	*i = id(text)
	if !usable(text) {
		*i = ""
	}
	return nil
}

// usable reports whether text can be the id of a record, also as a part of a path.
func usable(text string) bool {
	switch strings.ToLower(text) {
	case "", "null", "undefined", "nan", "true", "false":
		return false
	}
	return len(text) <= 128 && strings.Trim(text, ".") != "" && text[0] != '{' && text[0] != '[' &&
		!strings.ContainsFunc(text, unicode.IsControl)
}

// moment is a date-time. One that is missing or cannot be read is zero, because no time is so important that a user
// should not be read without it.
type moment struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999Z0700", "2006-01-02T15:04:05.999"} {
		if t, err := time.Parse(layout, text); err == nil {
			m.Time = t.UTC()
			return nil
		}
	}
	return nil
}

func (m moment) pointer() *time.Time {
	if m.IsZero() {
		return nil
	}
	return &m.Time
}

type meta struct {
	ResourceType string `json:"resourceType,omitempty"`
	Location     string `json:"location,omitempty"`
}

// id is the last part of the location: search results have no other id.
func (m meta) id() id {
	last := id(m.Location[strings.LastIndex(m.Location, "/")+1:])
	if !usable(string(last)) {
		return ""
	}
	return last
}

type name struct {
	FamilyName string `json:"familyName"`
	GivenName  string `json:"givenName"`
}

type email struct {
	Value string `json:"value"`
}

// action says what HID is to do for the user that is created or named; yes and no are HID's "Y" and "N".
type action struct {
	CreateInvitationCode string `json:"createInvitationCode"`
	SendInvitationEmail  string `json:"sendInvitationEmail"`
	AssignCredential     string `json:"assignCredential"`
	PartNumber           string `json:"partNumber"`
	Credential           string `json:"credential"` // the card number; empty: the next free one
}

type userRequest struct {
	Schemas    []string `json:"schemas"`
	ExternalID string   `json:"externalId,omitempty"`
	Name       *name    `json:"name,omitempty"`
	Emails     []email  `json:"emails,omitempty"`
	Action     *action  `json:"urn:hid:scim:api:ma:2.2:UserAction,omitempty"`
	Meta       meta     `json:"meta"`
}

func personBody(p provider.Person) userRequest {
	return userRequest{
		Schemas:    []string{coreUser},
		ExternalID: p.ExternalID,
		Name:       &name{FamilyName: p.LastName, GivenName: p.FirstName},
		Emails:     []email{{p.Email}},
		Meta:       meta{ResourceType: "PACSUser"},
	}
}

type invitation struct {
	ID      id                `json:"id"`
	Code    credential.Secret `json:"invitationCode"`
	Status  string            `json:"status"`
	Created moment            `json:"createdDate"`
	Expires moment            `json:"expirationDate"`
}

type mobileCredential struct {
	ID         id     `json:"id"`
	PartNumber string `json:"partNumber"`
	CardNumber id     `json:"cardNumber"`
	Status     string `json:"status"`
}

type container struct {
	ID           id                 `json:"id"`
	Status       string             `json:"status"`
	Manufacturer string             `json:"manufacturer"`
	Model        string             `json:"model"`
	Credentials  []mobileCredential `json:"urn:hid:scim:api:ma:2.2:Credential"`
}

type userAnswer struct {
	ID          id                 `json:"id"`
	ExternalID  id                 `json:"externalId"`
	Meta        meta               `json:"meta"`
	Invitations []invitation       `json:"urn:hid:scim:api:ma:2.2:UserInvitation"`
	Credentials []mobileCredential `json:"urn:hid:scim:api:ma:2.2:Credential"`
	Containers  []container        `json:"urn:hid:scim:api:ma:2.2:CredentialContainer"`
}

func (u userAnswer) id() string {
	if u.ID != "" {
		return string(u.ID)
	}
	return string(u.Meta.id())
}

var invitationStatuses = map[string]provider.InvitationStatus{
	"PENDING":          provider.InvitationPending,
	"ACKNOWLEDGED":     provider.InvitationAccepted,
	"CANCEL_INITIATED": provider.InvitationCancelled,
	"CANCELLED":        provider.InvitationCancelled,
	"EXPIRED":          provider.InvitationExpired,
}

func (i invitation) neutral() provider.Invitation {
	status, known := invitationStatuses[i.Status]
	if !known { // an unknown status must not end a credential
		status = provider.InvitationPending
	}
	return provider.Invitation{ID: string(i.ID), Status: status, Code: i.Code, ExpiresAt: i.Expires.pointer(),
		CreatedAt: i.Created.Time}
}

func (m mobileCredential) mobileID() credential.MobileID {
	return credential.MobileID{ID: mobileID(m.PartNumber, string(m.CardNumber)), Number: string(m.CardNumber)}
}

// mobileID is the identity of the card that doors read: part number and card number. It is empty unless both are known.
func mobileID(partNumber, cardNumber string) string {
	if partNumber == "" || cardNumber == "" {
		return ""
	}
	return partNumber + ":" + cardNumber
}

func (k container) device() *credential.Device {
	d := &credential.Device{ID: string(k.ID), Model: k.Model}
	switch {
	case strings.EqualFold(k.Manufacturer, "Apple"):
		d.Platform = "iOS"
	case k.Manufacturer != "":
		d.Platform = "Android"
	}
	return d
}

// neutral translates a user.
//
// A credential outside a container is reserved, unless its status is ISSUED: then it is on its way to the device. A
// credential inside a container is on the device only if its status is ISSUED; with any other status it is on its way.
// Credentials that are revoked, and those on a device that is INACTIVE, which is how HID shows a removed device or one
// whose app was installed anew, are over. One that is only being revoked is still there.
func (u userAnswer) neutral() provider.User {
	user := provider.User{ID: u.id(), ExternalID: string(u.ExternalID)}
	for _, i := range u.Invitations {
		if i.ID != "" {
			user.Invitations = append(user.Invitations, i.neutral())
		}
	}
	seen := map[id]bool{}
	add := func(m mobileCredential, device *credential.Device, issuing bool, why provider.FactStatus) {
		known := seen[m.ID]
		seen[m.ID] = true
		if known || m.ID == "" {
			return
		}
		k := provider.Credential{
			ID: string(m.ID), PartNumber: m.PartNumber, MobileID: m.mobileID(), Device: device, Issuing: issuing,
			Revoking: m.Status == "REVOKING" || m.Status == "REVOKE_INITIATED",
		}
		if m.Status == "REVOKED" {
			why = provider.FactRevoked
		}
		if why != "" {
			user.Ended = append(user.Ended, provider.Ended{Credential: k, Why: why})
			return
		}
		user.Credentials = append(user.Credentials, k)
	}
	for _, k := range u.Containers {
		for _, m := range k.Credentials {
			why := provider.FactStatus("")
			if k.Status == "INACTIVE" {
				why = provider.FactInactive
			}
			isBeingRevoked := m.Status == "REVOKING" || m.Status == "REVOKE_INITIATED"
			add(m, k.device(), m.Status != "ISSUED" && !isBeingRevoked, why)
		}
	}
	for _, m := range u.Credentials {
		add(m, nil, m.Status == "ISSUED", "")
	}
	return user
}
