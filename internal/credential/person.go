package credential

import (
	"strings"
	"time"
	"unicode"
)

// HolderKind is what a person is to the portal.
type HolderKind string

// A visitor's credentials end at the visitor's ValidUntil (R11).
const (
	Cardholder HolderKind = "cardholder"
	Visitor    HolderKind = "visitor"
)

// Holder is a person, as the portal last described them. The portal owns people; this is a snapshot.
type Holder struct {
	ID        string     `json:"id"`
	Kind      HolderKind `json:"kind"`
	FirstName string     `json:"firstName"`
	LastName  string     `json:"lastName"`
	Email     string     `json:"email"`
	// the one before it: the provider may have been asked under it
	FormerEmail string     `json:"formerEmail,omitempty"`
	Locale      string     `json:"locale"`
	TimeZone    string     `json:"timeZone"`
	ValidUntil  *time.Time `json:"validUntil,omitempty"`  // visitors only
	PictureHash string     `json:"pictureHash,omitempty"` // of the stored picture; empty: none
	Erasing     bool       `json:"erasing,omitempty"`
	CreatedAt   time.Time  `json:"createdAt"`
	UpdatedAt   time.Time  `json:"updatedAt"`
	Revision    int64      `json:"revision"`
	// Assigned counts the changes of credentials that rest on the holder as it was read: assignments, and the ends of a
	// visit. They raise it and leave the revision, so that a change of the holder which was decided without seeing them
	// conflicts.
	Assigned int64 `json:"assigned,omitempty"`
}

// Ended says whether the visit is over (R11); never for a cardholder.
func (h Holder) Ended(now time.Time) bool {
	return h.Kind == Visitor && h.ValidUntil != nil && !now.Before(*h.ValidUntil)
}

// Missing lists the JSON names of what the holder lacks to be assigned a credential (R1).
func (h Holder) Missing() []string {
	var missing []string
	for _, f := range []struct{ name, value string }{{"firstName", h.FirstName}, {"lastName", h.LastName}, {"email",
		h.Email}} {
		if IsBlank(f.value) {
			missing = append(missing, f.name)
		}
	}
	return missing
}

// IsBlank says whether there is nothing to be seen of a text: it is empty, or has only characters without a shape, such
// as zero-width spaces.
func IsBlank(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.In(r, unicode.Zs, unicode.Zl, unicode.Zp, unicode.Cc, unicode.Cf, unicode.Variation_Selector,
			unicode.Other_Default_Ignorable_Code_Point) && r != brailleBlank
	})
}

// brailleBlank is a braille pattern without a dot. It has the category of a symbol and looks like a space.
const brailleBlank = '\u2800'

// App is the provider's app that the holder redeems the code in.
type App struct {
	Name      string `json:"name"`
	AppleURL  string `json:"appleUrl"`
	GoogleURL string `json:"googleUrl"`
}

// Sender is how the invitation mail presents itself.
type Sender struct {
	Name    string  `json:"name"`
	ReplyTo string  `json:"replyTo"`
	Company string  `json:"company"`
	LogoURL *string `json:"logoUrl"`
	Color   string  `json:"color"` // #rrggbb
	Support string  `json:"support"`
}

// Profile is a mobile credential profile: the account and part number to draw mobile IDs from, and how to invite.
type Profile struct {
	ID             string    `json:"id"`
	Name           string    `json:"name"`
	Description    string    `json:"description"`
	Account        string    `json:"account"`
	PartNumber     string    `json:"partNumber"`
	App            App       `json:"app"`
	InvitationDays int       `json:"invitationDays"`
	Locale         string    `json:"locale"`
	TimeZone       string    `json:"timeZone"`
	Sender         Sender    `json:"sender"`
	LowStock       int       `json:"lowStock"`
	Retired        bool      `json:"retired"`
	CreatedAt      time.Time `json:"createdAt"`
	UpdatedAt      time.Time `json:"updatedAt"`
	Revision       int64     `json:"revision"`
}

// Picture is a holder's picture as stored: a JPEG under 200 kB, and its hash.
type Picture struct {
	HolderID    string `json:"holderId"`
	ContentType string `json:"contentType"`
	Data        []byte `json:"data"`
	Hash        string `json:"hash"`
}

// Stock is how many mobile IDs of a part number the provider had when last seen.
type Stock struct {
	Account    string    `json:"account"`
	PartNumber string    `json:"partNumber"`
	Available  int       `json:"available"`
	AsOf       time.Time `json:"asOf"`
}
