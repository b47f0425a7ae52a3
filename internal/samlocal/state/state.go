// Package state keeps what the local run must not forget, in one file: mails,
// events, undelivered work, faults, positions. It knows buckets, keys and
// JSON, not what any of it means.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// DB is the file. Every write is on disk when its method returns; writes made at the same time go there together.
type DB struct {
	bolt *bbolt.DB

	committing sync.Mutex // one transaction at a time; taken before mu
	mu         sync.Mutex
	waiting    []*write // for the next transaction
}

// write is one call of Write.
type write struct {
	f    func(*Tx) error
	done bool
	err  error
}

// ErrInUse says that another process has the directory open.
var ErrInUse = errors.New("another run uses this directory")

// Open opens or creates state.db in dir. It returns ErrInUse when another
// process has it.
func Open(dir string) (*DB, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	bolt, err := bbolt.Open(filepath.Join(dir, "state.db"), 0o600, &bbolt.Options{Timeout: 200 * time.Millisecond})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return &DB{bolt: bolt}, nil
}

// Close ends the use of the file.
func (db *DB) Close() error { return db.bolt.Close() }

// Get reads the value under key into v and says whether there was one.
func (db *DB) Get(bucket, key string, v any) (bool, error) {
	var raw []byte
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket([]byte(bucket)); b != nil {
			if found := b.Get([]byte(key)); found != nil {
				raw = append([]byte{}, found...)
			}
		}
		return nil
	})
	if err != nil || raw == nil {
		return false, err
	}
	return true, json.Unmarshal(raw, v)
}

// Put writes v under key.
func (db *DB) Put(bucket, key string, v any) error {
	return db.Write(func(tx *Tx) error { return tx.Put(bucket, key, v) })
}

// Delete removes key, if it is there.
func (db *DB) Delete(bucket, key string) error {
	return db.Write(func(tx *Tx) error { return tx.Delete(bucket, key) })
}

// Add writes v under the bucket's next key and returns that key. Keys sort in
// the order of adding.
func (db *DB) Add(bucket string, v any) (key string, err error) {
	err = db.Write(func(tx *Tx) (err error) {
		key, err = tx.Add(bucket, v)
		return err
	})
	return key, err
}

// Tx is one write of several values: all of them or none.
type Tx struct{ bolt *bbolt.Tx }

// Write runs f in a transaction and commits it unless f fails. f may be run more than once, and only its last run
// counts: it must not add to what an earlier one left outside the transaction.
func (db *DB) Write(f func(*Tx) error) error {
	w := &write{f: f}
	db.mu.Lock()
	db.waiting = append(db.waiting, w)
	db.mu.Unlock()
	// The first caller commits for all who wait: a transaction costs the same for one write and for twenty.
	db.committing.Lock()
	defer db.committing.Unlock()
	if w.done {
		return w.err
	}
	db.mu.Lock()
	batch := db.waiting
	db.waiting = nil
	db.mu.Unlock()
	db.commit(batch)
	return w.err
}

// commit makes the writes in one transaction. One that fails takes itself out, and the others are made again.
func (db *DB) commit(batch []*write) {
	for len(batch) > 0 {
		var failed *write
		err := db.bolt.Update(func(tx *bbolt.Tx) error {
			for _, w := range batch {
				if err := w.f(&Tx{tx}); err != nil {
					failed = w
					return err
				}
			}
			return nil
		})
		rest := batch[:0:0]
		for _, w := range batch {
			if failed != nil && w != failed {
				rest = append(rest, w)
				continue
			}
			w.done, w.err = true, err
		}
		batch = rest
	}
}

// Put is DB.Put within the transaction.
func (tx *Tx) Put(bucket, key string, v any) error {
	b, err := tx.bolt.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), raw)
}

// Delete is DB.Delete within the transaction.
func (tx *Tx) Delete(bucket, key string) error {
	b := tx.bolt.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	return b.Delete([]byte(key))
}

// Add is DB.Add within the transaction.
func (tx *Tx) Add(bucket string, v any) (string, error) {
	b, err := tx.bolt.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return "", err
	}
	n, err := b.NextSequence()
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("%012d", n)
	return key, tx.Put(bucket, key, v)
}

// Entry is one value with its key.
type Entry[T any] struct {
	Key   string
	Value T
}

// Added returns how many values were ever added to a bucket.
func (db *DB) Added(bucket string) (n int, err error) {
	err = db.bolt.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket([]byte(bucket)); b != nil {
			n = int(b.Sequence())
		}
		return nil
	})
	return n, err
}

// Newest returns the last values of a bucket by key, the last first: those that match, n at most, and none from where
// enough says so on (nil: never).
func Newest[T any](db *DB, bucket string, n int, match, enough func(T) bool) ([]Entry[T], error) {
	var out []Entry[T]
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for k, raw := c.Last(); k != nil && len(out) < n; k, raw = c.Prev() {
			e := Entry[T]{Key: string(k)}
			if err := json.Unmarshal(raw, &e.Value); err != nil {
				return fmt.Errorf("state: %s/%s: %w", bucket, k, err)
			}
			if match(e.Value) {
				out = append(out, e)
			}
			if enough != nil && enough(e.Value) {
				break
			}
		}
		return nil
	})
	return out, err
}

// List returns a bucket's values by key.
func List[T any](db *DB, bucket string) ([]Entry[T], error) {
	var out []Entry[T]
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, raw []byte) error {
			e := Entry[T]{Key: string(k)}
			if err := json.Unmarshal(raw, &e.Value); err != nil {
				return fmt.Errorf("state: %s/%s: %w", bucket, k, err)
			}
			out = append(out, e)
			return nil
		})
	})
	return out, err
}
