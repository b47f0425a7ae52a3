package worldtest

import (
	"context"
	"slices"
	"sync"

	"github.com/mobilecred/mobilecred/internal/mail"
)

// Mailbox is the mail service and every mailbox it delivers to.
type Mailbox struct {
	weather Weather

	mu      sync.Mutex
	letters []mail.Letter
	answer  func(mail.Letter) mail.Outcome
	repeats map[string]int // by credential: mails that may be sent once more, because nothing was heard of them
}

// Send implements mail.Mailer.
func (m *Mailbox) Send(_ context.Context, letter mail.Letter) mail.Outcome {
	switch m.weather.Meet(Call{Kind: "mail", CredentialID: letter.CredentialID}) {
	case MailThrottled:
		return mail.Outcome{Fate: mail.Throttled, Reason: "weather"}
	case MailRejected:
		return mail.Outcome{Fate: mail.Rejected, Reason: "weather"}
	case MailLost:
		return mail.Outcome{Fate: mail.InDoubt}
	case MailUnheard:
		m.deliver(letter)
		m.MayRepeat(letter.CredentialID)
		return mail.Outcome{Fate: mail.InDoubt}
	}
	m.mu.Lock()
	answer := m.answer
	m.mu.Unlock()
	if answer != nil {
		if outcome := answer(letter); outcome.Fate != mail.Sent {
			return outcome
		}
	}
	m.deliver(letter)
	m.weather.Meet(Call{Kind: "mail", After: true, CredentialID: letter.CredentialID})
	return mail.Outcome{}
}

func (m *Mailbox) deliver(letter mail.Letter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.letters = append(m.letters, letter)
}

// Answer makes the mail service answer with an outcome; a letter is delivered only with the fate Sent. Nil: every
// letter is sent.
func (m *Mailbox) Answer(answer func(mail.Letter) mail.Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = answer
}

// MayRepeat notes that one mail about a credential may come twice: it was sent, and its sender never learned of it.
func (m *Mailbox) MayRepeat(credentialID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.repeats == nil {
		m.repeats = map[string]int{}
	}
	m.repeats[credentialID]++
}

// Letters are all that were delivered, the oldest first.
func (m *Mailbox) Letters() []mail.Letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.letters)
}

// Count is how many letters were delivered.
func (m *Mailbox) Count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.letters)
}

// about counts the letters about a credential, and those that may have been repeated.
func (m *Mailbox) about(credentialID string) (sent, repeated int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.letters {
		if l.CredentialID == credentialID {
			sent++
		}
	}
	return sent, m.repeats[credentialID]
}
