// Package stream feeds a table's changes to a function, as Lambda's event
// source mapping does: in order, in batches, again on failure, with a durable
// position.
package stream

import (
	"context"
	"encoding/json"
	"log"
	"slices"
	"time"

	"github.com/mobilecred/mobilecred/internal/samlocal/dynamodb"
	"github.com/mobilecred/mobilecred/internal/samlocal/runtimeapi"
	"github.com/mobilecred/mobilecred/internal/samlocal/state"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

const (
	api    = "DynamoDBStreams_20120810."
	bucket = "stream"
	pause  = 100 * time.Millisecond // between looks, unless more is known to be there
)

// Mapping connects one stream with one function.
type Mapping struct {
	Source    template.Stream
	Function  *template.Function
	StreamARN string
	Endpoint  string
	DB        *state.DB
	Now       func() time.Time // the world's clock, for retries
	Invoke    func(*template.Function, []byte) runtimeapi.Result
	Bury      func(queue string, message any) error

	quiet chan chan bool

	// What the engine said last, so that it need not be asked at every look.
	shards    []shard
	positions map[string]position // by shard
	iterators map[string]iterator // by shard
	more      bool                // the last pass left something that can be dealt with at once
}

// iterator is where the engine goes on after a sequence number.
type iterator struct {
	after, token string
	full         bool // the look that gave it found a whole batch
}

// position is where the function is in one shard.
type position struct {
	After   string    `json:"after"`           // last sequence number dealt with
	Done    bool      `json:"done"`            // the shard is closed and read to its end
	Failed  int       `json:"failed"`          // attempts at what comes next
	Limit   int       `json:"limit,omitempty"` // records a batch, while bisecting
	RetryAt time.Time `json:"retryAt"`
	// Since is when what comes next first failed. The age of a record counts
	// from there: the engine dates records by a clock that is not the world's.
	Since time.Time `json:"since"`
}

type shard struct {
	ShardID       string `json:"ShardId"`
	ParentShardID string `json:"ParentShardId"`
}

type record struct {
	raw map[string]json.RawMessage
	seq string
}

// New prepares a mapping; Run runs it.
func New(m Mapping) *Mapping {
	m.quiet = make(chan chan bool)
	return &m
}

// Run reads the stream until ctx ends.
func (m *Mapping) Run(ctx context.Context) {
	var asked chan bool
	for ctx.Err() == nil {
		moved, err := m.pass(ctx)
		if err != nil && ctx.Err() == nil {
			log.Printf("%s: stream: %v", m.Source.ID, err)
		}
		if asked != nil {
			asked <- !moved && err == nil
			asked = nil
		}
		if m.more {
			continue
		}
		// Records that come meanwhile make one batch: a look and an invocation for each would cost more than they wait.
		select {
		case <-ctx.Done():
		case asked = <-m.quiet:
		case <-time.After(pause):
		}
	}
}

// Quiet looks at the stream once more and says whether nothing was left to do
// now; what waits for a retry does not count.
func (m *Mapping) Quiet(ctx context.Context) bool {
	answer := make(chan bool, 1)
	select {
	case m.quiet <- answer:
	case <-ctx.Done():
		return false
	}
	select {
	case q := <-answer:
		return q
	case <-ctx.Done():
		return false
	}
}

// pass deals with at most one batch per shard; moved says whether there was one.
func (m *Mapping) pass(ctx context.Context) (moved bool, err error) {
	if err := m.look(ctx); err != nil {
		return false, err
	}
	m.more = false
	known := m.positions
	for _, s := range m.shards {
		p := known[s.ShardID]
		if p.Done {
			continue
		}
		// A change of an item must not overtake an earlier one in the parent.
		if parent, ok := known[s.ParentShardID]; ok && !parent.Done {
			continue
		}
		was := p
		did, err := m.advance(ctx, s, &p)
		if err != nil {
			return moved, err
		}
		if p != was {
			if err := m.DB.Put(bucket, m.key(s), p); err != nil {
				return moved, err
			}
		}
		if known[s.ShardID] = p; p.Done {
			m.shards = nil // others go on where this one ends
		}
		moved = moved || did
		// All that was read is dealt with, and there was less than a batch of it: that was all.
		last := m.iterators[s.ShardID]
		all := p.After == last.after && last.token != "" && !last.full
		m.more = m.more || did && !all
	}
	return moved, nil
}

// look reads the list of shards and the positions in them, unless they are known.
func (m *Mapping) look(ctx context.Context) error {
	if len(m.shards) > 0 {
		return nil
	}
	shards, err := m.list(ctx)
	if err != nil {
		return err
	}
	positions := map[string]position{}
	for _, s := range shards {
		p := position{}
		if _, err := m.DB.Get(bucket, m.key(s), &p); err != nil {
			return err
		}
		positions[s.ShardID] = p
	}
	m.shards, m.positions, m.iterators = shards, positions, map[string]iterator{}
	return nil
}

func (m *Mapping) key(s shard) string { return m.Source.ID + "/" + s.ShardID }

func (m *Mapping) list(ctx context.Context) ([]shard, error) {
	var all []shard
	in := map[string]any{"StreamArn": m.StreamARN}
	for {
		var out struct {
			StreamDescription struct {
				Shards               []shard
				LastEvaluatedShardID string `json:"LastEvaluatedShardId"`
			}
		}
		if err := dynamodb.Call(ctx, m.Endpoint, api+"DescribeStream", in, &out); err != nil {
			return nil, err
		}
		all = append(all, out.StreamDescription.Shards...)
		last := out.StreamDescription.LastEvaluatedShardID
		if last == "" {
			return all, nil
		}
		in["ExclusiveStartShardId"] = last
	}
}

// advance reads one batch and has the function deal with it.
func (m *Mapping) advance(ctx context.Context, s shard, p *position) (bool, error) {
	if m.Now().Before(p.RetryAt) {
		return false, nil
	}
	records, closed, err := m.read(ctx, s, p)
	if err != nil || len(records) == 0 {
		p.Done = err == nil && closed
		return p.Done, err
	}
	last := records[len(records)-1].seq
	if records, err = m.wanted(records); err != nil {
		return false, err
	}
	if len(records) == 0 {
		*p = position{After: last}
		return true, nil
	}
	if p.Limit > 0 && p.Limit < len(records) {
		records = records[:p.Limit]
		last = records[p.Limit-1].seq
	}
	payload, err := m.payload(records)
	if err != nil {
		return false, err
	}
	r := m.Invoke(m.Function, payload)
	if ctx.Err() != nil {
		return false, nil // perhaps cut short by our own end
	}
	switch rest := m.failed(records, r); rest {
	case len(records):
		*p = position{After: last}
	case 0:
		return true, m.setback(records, p, r)
	default:
		*p = position{After: records[rest-1].seq}
		m.retry(p)
	}
	return true, nil
}

// wanted leaves out what the template's filters do not match.
func (m *Mapping) wanted(records []record) ([]record, error) {
	if len(m.Source.Filters) == 0 {
		return records, nil
	}
	var out []record
	for _, rec := range records {
		text, err := json.Marshal(rec.raw)
		if err != nil {
			return nil, err
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(m.Source.Filters, func(f map[string]any) bool { return template.Matches(f, fields) }) {
			out = append(out, rec)
		}
	}
	return out, nil
}

// failed returns the index of the first record to be done again: 0 after a
// failure of the whole, the length after a success.
func (m *Mapping) failed(records []record, r runtimeapi.Result) int {
	if r.Failed {
		return 0
	}
	if !m.Source.ReportItem {
		return len(records)
	}
	var answer struct {
		BatchItemFailures []struct {
			ItemIdentifier string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if len(r.Payload) > 0 && json.Unmarshal(r.Payload, &answer) != nil {
		return 0
	}
	first := len(records)
	for _, f := range answer.BatchItemFailures {
		i := slices.IndexFunc(records, func(rec record) bool { return rec.seq == f.ItemIdentifier })
		// What is no sequence number of this batch fails all of it.
		first = min(first, max(i, 0))
	}
	return first
}

// setback decides what follows when the first record of a batch failed.
func (m *Mapping) setback(records []record, p *position, r runtimeapi.Result) error {
	old := m.Source.MaxAge > 0 && !p.Since.IsZero() && m.Now().Sub(p.Since) > m.Source.MaxAge
	switch {
	case m.Source.Bisect && len(records) > 1:
		p.Limit = (len(records) + 1) / 2 // does not count as an attempt
		return nil
	case old || m.Source.MaxRetries >= 0 && p.Failed >= m.Source.MaxRetries:
		last := records[len(records)-1]
		*p = position{After: last.seq}
		if m.Source.OnFailure == "" {
			log.Printf("%s: %d records given up", m.Source.ID, len(records))
			return nil
		}
		return m.Bury(m.Source.OnFailure, map[string]any{
			"version": "1.0", "timestamp": m.Now(),
			"requestContext": map[string]any{"requestId": r.RequestID, "functionArn": m.Function.ARN,
				"condition": "RetryAttemptsExhausted"},
			"responseContext": map[string]any{"statusCode": 200, "executedVersion": "$LATEST",
				"functionError": "Unhandled"},
			"DDBStreamBatchInfo": map[string]any{"streamArn": m.StreamARN, "batchSize": len(records),
				"startSequenceNumber": records[0].seq, "endSequenceNumber": last.seq},
		})
	}
	m.retry(p)
	return nil
}

// retry waits one second, two, four … up to a minute.
func (m *Mapping) retry(p *position) {
	now := m.Now()
	if p.Since.IsZero() {
		p.Since = now
	}
	p.RetryAt = now.Add(min(time.Second<<min(p.Failed, 6), time.Minute))
	p.Failed++
}

func (m *Mapping) read(ctx context.Context, s shard, p *position) (records []record, closed bool, err error) {
	token, err := m.iterator(ctx, s, p)
	if err != nil {
		return nil, false, err
	}
	delete(m.iterators, s.ShardID) // unless all goes well, the next look begins with the position
	var out struct {
		Records           []map[string]json.RawMessage
		NextShardIterator string
	}
	in := map[string]any{"ShardIterator": token, "Limit": m.Source.BatchSize}
	if err := dynamodb.Call(ctx, m.Endpoint, api+"GetRecords", in, &out); err != nil {
		return nil, false, err
	}
	for _, raw := range out.Records {
		var change struct{ SequenceNumber string }
		if err := json.Unmarshal(raw["dynamodb"], &change); err != nil {
			return nil, false, err
		}
		records = append(records, record{raw, change.SequenceNumber})
	}
	next := iterator{p.After, out.NextShardIterator, len(records) >= m.Source.BatchSize}
	if len(records) > 0 {
		next.after = records[len(records)-1].seq
	}
	m.iterators[s.ShardID] = next
	return records, out.NextShardIterator == "", nil
}

// iterator returns where to read on after the position.
func (m *Mapping) iterator(ctx context.Context, s shard, p *position) (string, error) {
	if kept, ok := m.iterators[s.ShardID]; ok && kept.after == p.After && kept.token != "" {
		return kept.token, nil
	}
	in := map[string]any{"StreamArn": m.StreamARN, "ShardId": s.ShardID, "ShardIteratorType": "TRIM_HORIZON"}
	if p.After != "" {
		in["ShardIteratorType"], in["SequenceNumber"] = "AFTER_SEQUENCE_NUMBER", p.After
	}
	var out struct{ ShardIterator string }
	err := dynamodb.Call(ctx, m.Endpoint, api+"GetShardIterator", in, &out)
	return out.ShardIterator, err
}

// payload is the function's event; the engine's records have its shape but for
// two fields.
func (m *Mapping) payload(records []record) ([]byte, error) {
	arn, _ := json.Marshal(m.StreamARN)
	list := make([]map[string]json.RawMessage, len(records))
	for i, rec := range records {
		list[i] = rec.raw
		list[i]["eventSource"], list[i]["eventSourceARN"] = json.RawMessage(`"aws:dynamodb"`), arn
	}
	return json.Marshal(map[string]any{"Records": list})
}
