package origosim

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

func (s *Sim) location(resource, id string) string {
	return baseURL + s.opts.OrganizationID + "/" + resource + "/" + id
}

// seenBy is a user as a reading shows it, which hides some of what the user has.
func seenBy(u *user, switches Switches, now time.Time) *user {
	seen := u.clone()
	if switches.ListLags {
		seen.Invitations = slices.DeleteFunc(seen.Invitations,
			func(inv *invitation) bool { return isYoung(inv.Created, now) })
		seen.Credentials = slices.DeleteFunc(seen.Credentials,
			func(c *credential) bool { return isYoung(c.Reserved, now) })
	}
	if switches.ReservedNeverListed {
		seen.Credentials = slices.DeleteFunc(seen.Credentials,
			func(c *credential) bool { return c.Container == "" || c.Issuing })
	}
	return seen
}

func (s *Sim) userBody(u *user) map[string]any {
	return map[string]any{
		"schemas": []string{userSchema},
		"meta": map[string]any{"resourceType": "PACSUser", "lastModified": u.Updated.Format(time.RFC3339),
			"location": s.location("users", u.shownID())},
		"id":         u.shown(),
		"externalId": u.ExternalID,
		"name":       map[string]any{"familyName": u.FamilyName, "givenName": u.GivenName},
		"emails":     []any{map[string]any{"value": u.Email}},
		"status":     "ACTIVE",
	}
}

// addNew adds what a request has just made to its answer: nothing else the user has is in it.
func (s *Sim) addNew(st *state, body map[string]any, inv *invitation, c *credential) {
	schemas := body["schemas"].([]string)
	if inv != nil {
		b := invitationBody(inv)
		b["meta"] = map[string]any{"resourceType": "UserInvitation", "lastModified": inv.Created.Format(time.RFC3339),
			"location": s.location("invitation", inv.shownID())}
		body[urn+"UserInvitation"] = []any{b}
		schemas = append(schemas, urn+"UserInvitation")
	}
	if c != nil {
		body[urn+"Credential"] = []any{credentialBody(st, c)}
		schemas = append(schemas, urn+"Credential")
	}
	body["schemas"] = schemas
}

// fullUserBody is what reading a user shows: all invitations, the credentials that wait for one to be redeemed, and
// the phones with theirs.
func (s *Sim) fullUserBody(st *state, u *user) map[string]any {
	body := s.userBody(u)
	var invitations, reserved, containers, licences []any
	for _, inv := range u.Invitations {
		invitations = append(invitations, invitationBody(inv))
	}
	for _, id := range u.Containers {
		m := st.modelOf(id)
		status := "ACTIVE"
		if slices.Contains(u.Inactive, id) {
			status = "INACTIVE"
		}
		issued := []any{}
		for _, c := range u.Credentials {
			if c.Container == id {
				issued = append(issued, credentialBody(st, c))
			}
		}
		containers = append(containers,
			map[string]any{"id": containerID(id), "status": status, "osVersion": m.os, "manufacturer": m.manufacturer,
				"model": m.name, "applicationVersion": "5.2.0", "bluetoothCapability": "TRUE", "nfcCapability": "TRUE",
				"hceCapability":    "FALSE",
				urn + "Credential": issued})
	}
	used := map[string]int{}
	for _, c := range u.Credentials {
		used[c.PartNumber]++
		if c.Container == "" {
			reserved = append(reserved, credentialBody(st, c))
		}
	}
	for _, p := range st.PartNumbers {
		if used[p.PartNumber] > 0 {
			licences = append(licences,
				map[string]any{"partNumber": p.PartNumber, "name": p.FriendlyName, "consumedQty": used[p.PartNumber]})
		}
	}
	for name, list := range map[string][]any{"UserInvitation": invitations, "Credential": reserved,
		"CredentialContainer": containers, "LicenseInfo": licences} {
		if list != nil {
			body[urn+name] = list
		}
	}
	return body
}

// containerID is a number where the phone's id is one, as HID's are; the phones of the local run have names.
func containerID(deviceID string) any {
	if n, err := strconv.ParseInt(deviceID, 10, 64); err == nil && fmt.Sprint(n) == deviceID {
		return n
	}
	return deviceID
}

func invitationBody(inv *invitation) map[string]any {
	return map[string]any{"id": inv.shown(), "invitationCode": inv.Code, "status": inv.Status,
		"createdDate": inv.Created.Format(time.RFC3339), "expirationDate": inv.Expires.Format(time.RFC3339)}
}

func credentialBody(st *state, c *credential) map[string]any {
	status := "ISSUE_INITIATED"
	switch {
	case c.Revoking:
		status = "REVOKING"
	case c.Container != "" && !c.Issuing:
		status = "ISSUED"
	}
	return map[string]any{"id": c.shown(), "partNumber": c.PartNumber,
		"partnumberFriendlyName": st.partNumber(c.PartNumber).FriendlyName,
		"status":                 status, "credentialType": "ICLASSSEOS", "cardNumber": strconv.Itoa(c.Card)}
}

func partNumberBody(p *partNumber) map[string]any {
	free := p.available()
	next := ""
	if len(free) > 0 {
		next = strconv.Itoa(free[0])
	}
	return map[string]any{"id": p.ID, "partNumber": p.PartNumber, "friendlyName": p.FriendlyName,
		"availableQty": len(free),
		"nextNumber":   next, "lastNumber": strconv.Itoa(p.First + p.Count - 1), "replenishmentState": "Not Needed",
		"programmingData": map[string]any{"facilityCode": p.FacilityCode, "format_number": p.Format}}
}

// listBody is one page of a list, of at most limit and by default 100 items.
func listBody(items []any, start, count, limit int) map[string]any {
	if count <= 0 {
		count = 100
	}
	start = max(start, 1)
	from := min(start-1, len(items))
	page := items[from:min(from+min(count, limit), len(items))]
	return map[string]any{"schemas": []string{listSchema}, "totalResults": len(items), "itemsPerPage": len(page),
		"startIndex": start, "Resources": page}
}
