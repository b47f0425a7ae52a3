package awsapi

import (
	"regexp"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/state"
)

const mails = "mails"

// Mail is one mail that was sent. Code and Link are what its text offers the
// holder; empty when it offers none.
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

var (
	code = regexp.MustCompile(`\b[A-Z0-9]{4}(?:-[A-Z0-9]{4}){3}\b`)
	link = regexp.MustCompile(`https?://[^\s<>"]+`)
)

// Mails returns every mail, newest first; never nil.
func Mails(db *state.DB) ([]Mail, error) {
	entries, err := state.List[Mail](db, mails)
	out := []Mail{}
	for _, e := range slices.Backward(entries) {
		m := e.Value
		m.ID, m.Code, m.Link = e.Key, code.FindString(m.Text), link.FindString(m.Text)
		out = append(out, m)
	}
	return out, err
}
