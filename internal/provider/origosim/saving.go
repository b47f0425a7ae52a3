package origosim

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// compactAfter is how many bytes are appended to the journal before it is written anew, if that halves it at least.
const compactAfter = 4 << 20

// batch is the changes that go to the journal together: those made while the one before was written.
type batch struct {
	lines []byte
	done  bool // saved, or lost with err
	err   error
}

// saver is the simulator's state and how it becomes durable. A change takes effect in memory under the lock mu and is
// appended to the batch; then, without the lock, its caller waits until the batch is saved. A reader waits for the
// batches that hold what it has seen, so that no answer tells of what a kill could undo. When saving fails, the state
// is read again from the journal, and all who wait for a lost batch are told.
type saver struct {
	load     func() ([]byte, error)
	save     func([]byte) error // nil: nothing is kept
	replace  func([]byte) error // nil: never written anew
	account  string             // for error texts
	defaults Switches           // positions of the switches that were never set

	writing sync.Mutex // one batch at a time; taken before mu
	size    int        // of the journal as it was last written anew
	grown   int        // by so much since

	mu       sync.Mutex
	st       *state
	next     *batch // collects, nil if nothing has changed
	underway *batch // is being written
	broken   error  // the journal could not be read after a failure
}

// open reads the journal, and writes it anew if there is anything in it.
func (s *saver) open() error {
	var journal []byte
	if s.load != nil {
		var err error
		if journal, err = s.load(); err != nil {
			return s.wrap("load", err)
		}
	}
	st, torn, err := replay(journal)
	if err != nil {
		return s.wrap("load", err)
	}
	if torn && s.replace == nil {
		return s.wrap("load", errors.New("the journal ends within a line, and there is no way to write it anew"))
	}
	s.size, s.grown = 0, len(journal)
	if len(journal) > 0 && s.replace != nil {
		if err := s.compact(st); err != nil && torn {
			return err
		}
	}
	st.Switches = s.defaults
	if st.byHand != nil { // a switch that was unknown when the others were set keeps its default
		if err := json.Unmarshal(st.byHand, &st.Switches); err != nil {
			return s.wrap("load", err)
		}
	}
	s.st, s.next, s.broken = st, nil, nil
	return nil
}

func (s *saver) compact(st *state) error {
	journal, err := st.whole()
	if err == nil {
		err = s.replace(journal)
	}
	if err != nil {
		return s.wrap("save", err)
	}
	s.size, s.grown = len(journal), 0
	return nil
}

func (s *saver) wrap(what string, err error) error {
	return fmt.Errorf("%s the simulator of %s: %w", what, s.account, err)
}

// mendLocked reads the journal again if that has failed.
func (s *saver) mendLocked() error {
	if s.broken == nil {
		return nil
	}
	return s.open()
}

// applyLocked makes one change, as a whole or not at all, and says whether anything has changed.
func (s *saver) applyLocked(now time.Time, fn func(*state, time.Time) error) (changed bool, err error) {
	s.st.begin()
	if err := fn(s.st, now); err != nil {
		s.st.rollback()
		return false, err
	}
	e := s.st.change()
	s.st.undo = nil
	if e == nil {
		return false, nil
	}
	if s.save == nil {
		return true, nil
	}
	line, err := e.line()
	if err != nil {
		return false, err
	}
	if s.next == nil {
		s.next = &batch{}
	}
	s.next.lines = append(s.next.lines, line...)
	return true, nil
}

// unsavedLocked is the batch that what can be seen now depends on, nil if all is saved.
func (s *saver) unsavedLocked() *batch {
	if s.next != nil {
		return s.next
	}
	return s.underway
}

// wait returns when the batch is saved, or with the error that lost it. The first who waits for it writes it.
func (s *saver) wait(b *batch) error {
	if b == nil {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if b.done {
		return b.err
	}
	// No batch is under way while this one holds writing, so b is the one that collects.
	s.mu.Lock()
	s.next, s.underway = nil, b
	s.mu.Unlock()
	err := s.save(b.lines)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.underway, b.done = nil, true
	if err != nil {
		b.err = s.wrap("save", err)
		if s.next != nil { // it was built on what is lost
			s.next.done, s.next.err = true, b.err
		}
		s.broken = b.err
		if err := s.open(); err != nil {
			b.err = errors.Join(b.err, err)
		}
		return b.err
	}
	s.grown += len(b.lines)
	if s.replace != nil && s.grown > max(compactAfter, s.size) {
		s.compactLocked()
	}
	return nil
}

// compactLocked writes the journal anew with everything in it that is in memory, so that nothing is left to be saved.
// Failing does no harm: the journal is only longer than it need be.
func (s *saver) compactLocked() {
	if err := s.compact(s.st); err != nil {
		s.grown = 0
		return
	}
	if s.next != nil {
		s.next.done, s.next = true, nil
	}
}
