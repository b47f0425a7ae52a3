package awsapi

import (
	"regexp"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/state"
)

const mails = "mails"

// Mail is one mail that was sent. Code and Link are the first of each in its text, empty if there is none.
type Mail struct {
	ID      string    `json:"id"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	ReplyTo string    `json:"replyTo,omitempty"`
	At      time.Time `json:"at"`
	Subject string    `json:"subject"`
	HTML    string    `json:"html"`
	Text    string    `json:"text"`
	Code    string    `json:"code"`
	Link    string    `json:"link"`
}

var link = regexp.MustCompile(`https?://[^\s<>"]+`)

// Mails returns every mail, newest first; never nil. code says what a code looks like, nil for none.
func Mails(db *state.DB, code *regexp.Regexp) ([]Mail, error) {
	all, err := db.Added(mails)
	if err != nil {
		return nil, err
	}
	return Newest(db, code, all)
}

// Count returns how many mails there are.
func Count(db *state.DB) (int, error) { return db.Added(mails) }

// Newest is Mails, but for n mails at most.
func Newest(db *state.DB, code *regexp.Regexp, n int) ([]Mail, error) {
	entries, err := state.Newest(db, mails, n, func(Mail) bool { return true }, nil)
	out := []Mail{}
	for _, e := range entries {
		m := e.Value
		m.ID, m.Link = e.Key, link.FindString(m.Text)
		if code != nil {
			m.Code = code.FindString(m.Text)
		}
		out = append(out, m)
	}
	return out, err
}
