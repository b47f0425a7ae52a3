package e2e

import (
	"maps"
	"slices"
)

// expectAgreement waits for rest and compares: the provider's reserved and issued mobile IDs are exactly those of our
// live credentials. With holders named, only their mobile IDs are compared; without, all of them, except those the
// provider gave to people who are not our holders.
func (r *run) expectAgreement(only ...string) {
	r.t.Helper()
	r.settle()
	theirs := map[string][]string{}
	for _, u := range r.provider().Users {
		if r.foreign[u.ExternalID] || len(only) > 0 && !slices.Contains(only, u.ExternalID) {
			continue
		}
		for _, inv := range u.Invitations {
			if inv.MobileID != nil {
				theirs[u.ExternalID] = append(theirs[u.ExternalID], *inv.MobileID)
			}
		}
	}
	ours := map[string][]string{}
	for _, c := range r.live() {
		if len(only) == 0 || slices.Contains(only, c.HolderID) {
			ours[c.HolderID] = append(ours[c.HolderID], c.MobileID)
		}
	}
	for _, by := range []map[string][]string{theirs, ours} {
		for _, ids := range by {
			slices.Sort(ids)
		}
	}
	if !maps.EqualFunc(theirs, ours, slices.Equal[[]string]) {
		r.t.Errorf("by holder, the provider has\n%v\nand we have\n%v", theirs, ours)
	}
}

// expectNextGets expects the next assignment, to another holder, to get the mobile ID that a credential has lost.
func (r *run) expectNextGets(c credential) credential {
	r.t.Helper()
	next := r.invited()
	if next.MobileID != c.MobileID {
		r.t.Fatalf("the next got %s, not %s", next.MobileID, c.MobileID)
	}
	return next
}

// expectPoolFits expects the mobile IDs that the provider has reserved and issued, those of people we do not know
// aside, to be those of our live credentials, each with one of them.
func (r *run) expectPoolFits() {
	r.t.Helper()
	p := r.provider()
	want := map[string]bool{}
	for _, u := range p.Users {
		for _, inv := range u.Invitations {
			if r.foreign[u.ExternalID] && inv.MobileID != nil {
				want[*inv.MobileID] = true
			}
		}
	}
	live := map[string]bool{}
	for _, c := range r.live() {
		if live[c.MobileID] {
			r.t.Errorf("two live credentials have %s", c.MobileID)
		}
		live[c.MobileID], want[c.MobileID] = true, true
	}
	have := map[string]bool{}
	for _, id := range p.mobileIDs() {
		have[id] = true
	}
	if !maps.Equal(have, want) {
		r.t.Errorf("reserved and issued are %v; ours and strangers' are %v", slices.Sorted(maps.Keys(have)),
			slices.Sorted(maps.Keys(want)))
	}
}

// expectOwnersFit expects the item of every mobile ID to fit the credentials.
func (r *run) expectOwnersFit() {
	r.t.Helper()
	items := r.items()
	has := map[string]string{}
	for _, o := range all[owner](items, func(_, sk string) bool { return sk == "OWNER" }) {
		if o.State == "held" || o.State == "spent" {
			has[o.MobileID] = o.CredentialID
		}
	}
	live := map[string]bool{}
	for _, c := range rows(items) {
		if c.Status != "active" || c.Mobile == nil {
			continue
		}
		live[c.ID] = true
		if has[c.Mobile.ID] != c.ID {
			r.t.Errorf("%s is that of credential %s, says the credential; of %q, says its owner item", c.Mobile.ID,
				c.ID, has[c.Mobile.ID])
		}
	}
	for _, o := range all[owner](items, func(_, sk string) bool { return sk == "OWNER" }) {
		if o.State == "held" && !live[o.CredentialID] {
			r.t.Errorf("%s is held by a credential that is not live", o.MobileID)
		}
	}
}
