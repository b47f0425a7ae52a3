package worldtest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/mail"
)

// Mailbox is the mail service and every mailbox it delivers to.
type Mailbox struct {
	weather Weather
	now     func() time.Time

	mu      sync.Mutex
	letters []mail.Letter
	answer  func(mail.Letter) mail.Outcome
	repeats map[string]int // by credential: mails that may be sent once more, because nothing was heard of them
	spells  []spell
}

// spell is weather of the mail service that lasts.
type spell struct {
	address string    // "" for every address
	until   time.Time // zero for good
	loses   bool      // the letter is delivered and the answer lost, instead of refused
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
	if s, bad := m.spell(letter.To); bad && s.loses {
		m.deliver(letter)
		m.MayRepeat(letter.CredentialID)
		return mail.Outcome{Fate: mail.InDoubt}
	} else if bad {
		return mail.Outcome{Fate: mail.Rejected, Reason: "MessageRejected"}
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

// Refuse makes the mail service reject every letter, or those to one address, until a moment; for good when it is zero.
// Mend of the world ends it.
func (m *Mailbox) Refuse(address string, until time.Time) { m.add(spell{address, until, false}) }

// LoseAnswers makes every answer of the mail service get lost, or those about letters to one address, until a moment:
// the letters are delivered, and their senders never learn of it. Mend of the world ends it.
func (m *Mailbox) LoseAnswers(address string, until time.Time) { m.add(spell{address, until, true}) }

func (m *Mailbox) add(s spell) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spells = append(m.spells, s)
}

// spell is the one that a letter to an address meets now.
func (m *Mailbox) spell(address string) (spell, bool) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.spells {
		if (s.address == "" || strings.EqualFold(s.address, address)) && (s.until.IsZero() || now.Before(s.until)) {
			return s, true
		}
	}
	return spell{}, false
}

func (m *Mailbox) mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer, m.spells = nil, nil
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
