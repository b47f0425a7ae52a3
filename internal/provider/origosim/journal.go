package origosim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
)

// entry is one change as the journal has it, on a line of its own: everything it touched, as it is afterwards. A change
// is in the journal as a whole or not at all. The journal's beginning is the whole state as such entries.
type entry struct {
	Last        counters
	Users       []*user       `json:",omitempty"`
	Gone        []int64       `json:",omitempty"` // users
	PartNumbers []*partNumber `json:",omitempty"` // new ones
	Spent       []card        `json:",omitempty"` // newly
	DeadCodes   []string      `json:",omitempty"` // new ones
	Emitted     []*callback   `json:",omitempty"` // for the feed and the queue
	Tried       []*callback   `json:",omitempty"` // without their events
	Sent        []int64       `json:",omitempty"` // callbacks that leave the queue

	Switches    json.RawMessage   `json:",omitempty"` // all positions, when any was set
	Late        []*lateCall       `json:",omitempty"` // new ones
	Arrived     []int64           `json:",omitempty"` // of those, executed
	Reinstalled map[string]string `json:",omitempty"` // newly
	Revoked     []int64           `json:",omitempty"` // newly

	Events []cloudEvent `json:",omitempty"` // for the feed only
	Queue  []*callback  `json:",omitempty"` // for the queue only
}

// line is the entry with its checksum: eight digits, a space, JSON without line breaks, a line break.
func (e *entry) line() ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(text), text), nil
}

// apply makes the change in a state that has none under way.
func (st *state) apply(e *entry) {
	for _, p := range e.PartNumbers {
		st.addPartNumber(p)
	}
	for _, c := range e.Spent {
		st.spend(c.PartNumber, c.Card)
	}
	for _, id := range e.Gone {
		if u := st.users[id]; u != nil {
			st.deleteUser(u)
		}
	}
	for _, u := range e.Users {
		at, found := st.place(u.ID)
		if found {
			st.leave(st.Users[at])
			st.Users[at] = u
		} else {
			st.Users = slices.Insert(st.Users, at, u)
		}
		st.enter(u)
	}
	for _, code := range e.DeadCodes {
		st.DeadCodes[code] = true
	}
	st.Events = append(st.Events, e.Events...)
	st.Queue = append(st.Queue, e.Queue...)
	for _, c := range e.Emitted {
		st.queue(c)
	}
	for _, c := range e.Tried {
		st.tried(c.ID, c.Tries, c.NotBefore)
	}
	for _, id := range e.Sent {
		st.sent(id)
	}
	if e.Switches != nil {
		st.byHand = e.Switches
	}
	for _, c := range e.Late {
		st.enqueue(c)
	}
	for _, id := range e.Arrived {
		st.arrived(id)
	}
	maps.Copy(st.Reinstalled, e.Reinstalled)
	for _, id := range e.Revoked {
		st.Revoked[id] = true
	}
	st.counters = e.Last
	st.begin()
}

// usersPerEntry keeps the lines of a whole state at a size that can be read by people.
const usersPerEntry = 100

// whole returns the state as journal.
func (st *state) whole() ([]byte, error) {
	first := &entry{Last: st.counters, PartNumbers: st.PartNumbers, Events: st.Events, Queue: st.Queue,
		DeadCodes: slices.Sorted(maps.Keys(st.DeadCodes)), Switches: st.byHand, Late: st.Late,
		Reinstalled: st.Reinstalled, Revoked: slices.Sorted(maps.Keys(st.Revoked))}
	for _, p := range st.PartNumbers {
		for i, spent := range p.spent {
			if spent {
				first.Spent = append(first.Spent, card{p.PartNumber, p.First + i})
			}
		}
	}
	entries := []*entry{first}
	for users := range slices.Chunk(st.Users, usersPerEntry) {
		entries = append(entries, &entry{Last: st.counters, Users: users})
	}
	var journal []byte
	for _, e := range entries {
		line, err := e.line()
		if err != nil {
			return nil, err
		}
		journal = append(journal, line...)
	}
	return journal, nil
}

// replay makes a state of a journal. A last line that was not written to its end belongs to a change that was never
// answered: it is left out, and torn says so. Any other damage is an error.
func replay(journal []byte) (st *state, torn bool, err error) {
	st = newState()
	for number := 1; len(journal) > 0; number++ {
		line, rest, whole := bytes.Cut(journal, []byte("\n"))
		if !whole {
			return st, true, nil
		}
		sum, text, _ := bytes.Cut(line, []byte(" "))
		want, err := strconv.ParseUint(string(sum), 16, 32)
		if err != nil || len(sum) != 8 || uint32(want) != crc32.ChecksumIEEE(text) {
			return nil, false, fmt.Errorf("line %d of the journal is damaged", number)
		}
		e := &entry{}
		if err := json.Unmarshal(text, e); err != nil {
			return nil, false, fmt.Errorf("line %d of the journal: %w", number, err)
		}
		st.apply(e)
		journal = rest
	}
	return st, false, nil
}

// Journal is a file for [Options.Load], [Options.Save] and [Options.Replace].
type Journal struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenJournal opens the file at path, or makes an empty one.
func OpenJournal(path string) (*Journal, error) {
	j := &Journal{path: path}
	return j, j.open()
}

func (j *Journal) open() error {
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.file, j.size = f, info.Size()
	return nil
}

// Close ends the use of the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}

// Load returns what is in the file.
func (j *Journal) Load() ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return os.ReadFile(j.path)
}

// Append adds to the file and returns when that is on the disk. After an error the file is as it was, unless the disk
// refuses that as well.
func (j *Journal) Append(lines []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err := j.file.Write(lines)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size += int64(len(lines))
	return nil
}

// Replace puts a new content in the place of the old: a run that is killed meanwhile leaves one or the other.
func (j *Journal) Replace(content []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	fresh, err := os.CreateTemp(filepath.Dir(j.path), filepath.Base(j.path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(fresh.Name())
	_, err = fresh.Write(content)
	if err = errors.Join(err, fresh.Sync(), fresh.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh.Name(), j.path); err != nil {
		return err
	}
	old := j.file
	return errors.Join(j.open(), old.Close(), syncDir(filepath.Dir(j.path)))
}

// syncDir makes a renaming durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
