package credential

import (
	"encoding/base64"
	"strings"
	"time"
)

// Page asks for a part of the list of a profile's credentials, the newest first. Status is empty for all; Cursor is
// empty for the first page. With Warning it is the list of those with that lasting warning instead, the one that has
// had it longest first.
type Page struct {
	ProfileID string
	Status    Status
	Warning   WarningCode
	Limit     int
	Cursor    string
}

// StampLayout writes times with whole milliseconds in a fixed width, so that texts sort as times do.
const StampLayout = "2006-01-02T15:04:05.000Z"

// ListKey is the place of a credential in its profile's list.
func ListKey(c Credential) string { return c.CreatedAt.UTC().Format(StampLayout) + "#" + c.ID }

// CursorAfter is the cursor of the page that goes on after the list key of the last entry examined; empty for none.
func (p Page) CursorAfter(listKey string) string {
	if listKey == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(p.list() + "\x00" + listKey))
}

// list names the list that a page is of.
func (p Page) list() string {
	if p.Warning == "" {
		return p.ProfileID
	}
	return p.ProfileID + "/" + string(p.Warning)
}

// Position is the list key after which the page starts, empty for the first. It is strict, for a cursor comes from
// outside and becomes part of a query: CodeInvalidCursor for one of another profile, or none of ours.
func (p Page) Position() (string, error) {
	if p.Cursor == "" {
		return "", nil
	}
	decoded, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	list, after, _ := strings.Cut(string(decoded), "\x00")
	at, id, _ := strings.Cut(after, "#")
	if _, e := time.Parse(StampLayout, at); err != nil || e != nil || list != p.list() || id == "" ||
		len(id) > 64 {
		return "", Refuse(CodeInvalidCursor, "The cursor is not one of this list.")
	}
	return after, nil
}
