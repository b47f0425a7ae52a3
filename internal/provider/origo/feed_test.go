package origo_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/provider"
	"github.com/mobilecred/mobilecred/internal/provider/origo"
)

// record is an events API: oldest first, in pages of at most limit. It serves the token too.
type record struct {
	events []recorded
	limit  int
	atMost int // that are read at a time; 0: all
	bare   bool
	reads  int
}

type recorded struct {
	n  int
	at time.Time
}

func (r *record) add(at time.Time, n int) {
	r.events = append(r.events, recorded{n, at})
	slices.SortStableFunc(r.events, func(a, b recorded) int { return a.at.Compare(b.at) })
}

func (r *record) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path != "/events" {
		fmt.Fprint(w, `{"access_token": "T", "expires_in": 3600}`)
		return
	}
	r.reads++
	from, _ := time.Parse(time.RFC3339, req.URL.Query().Get("dateFrom"))
	startIndex, _ := strconv.Atoi(req.URL.Query().Get("startIndex"))
	all := []map[string]any{}
	for _, e := range r.events {
		if !e.at.Before(from) {
			all = append(all, map[string]any{"specversion": "1.0", "id": fmt.Sprint("event-", e.n),
				"type": "com.origo.mi.credential",
				"time": e.at.Format("2006-01-02T15:04:05.000Z"),
				"data": map[string]any{"userId": "5", "mid": fmt.Sprint(e.n), "status": "CREDENTIAL_ISSUED"}})
		}
	}
	if r.bare {
		_ = json.NewEncoder(w).Encode(all)
		return
	}
	page := all[min(startIndex-1, len(all)):]
	page = page[:min(r.limit, len(page))]
	_ = json.NewEncoder(w).Encode(map[string]any{"totalResults": len(all), "startIndex": startIndex,
		"itemsPerPage": len(page), "Resources": page})
}

func (r *record) reader(t *testing.T) func(mark string) (told []string, next string) {
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	client := origo.New(config(server.URL), server.Client(), new(clock).Now, new(limiter))
	return func(mark string) (told []string, next string) {
		t.Helper()
		for {
			feed, err := client.Feed(t.Context(), mark, start, r.atMost)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range feed.Users {
				for _, f := range u.Facts {
					told = append(told, f.Ref)
				}
			}
			mark = feed.Next
			if !feed.More {
				return told, mark
			}
			if len(feed.Users) == 0 {
				t.Fatal("more, but no progress")
			}
		}
	}
}

func refs(from, to int) (want []string) {
	for n := from; n <= to; n++ {
		want = append(want, fmt.Sprint(n))
	}
	return want
}

func TestFeedTellsEveryEventOnce(t *testing.T) {
	for _, r := range []*record{{limit: 1}, {limit: 3}, {limit: 500}, {limit: 500, atMost: 2}, {limit: 3, atMost: 1}} {
		read := r.reader(t)
		r.add(start.Add(-time.Second), 0) // before since
		told, mark := read("")
		equal(t, told, nil)
		for n := 1; n <= 5; n++ {
			r.add(start.Add(time.Duration(n)*time.Minute), n)
		}
		told, mark = read(mark)
		equal(t, told, refs(1, 5))
		told, again := read(mark)
		equal(t, told, nil)
		equal(t, again, mark)
		r.add(start.Add(5*time.Minute), 6)             // the same moment as the newest
		r.add(start.Add(3*time.Minute+time.Second), 7) // late into the record
		told, mark = read(mark)
		slices.Sort(told)
		equal(t, told, refs(6, 7))
		told, _ = read(mark)
		equal(t, told, nil)
	}
}

func TestFeedGetsPastAMomentWithMoreEventsThanAPage(t *testing.T) {
	r := &record{limit: 100}
	read := r.reader(t)
	for n := 1; n <= 1000; n++ {
		r.add(start, n)
	}
	told, mark := read("")
	equal(t, told, refs(1, 1000))
	r.add(start, 1001)
	r.add(start.Add(time.Hour), 1002)
	told, mark = read(mark)
	equal(t, told, refs(1001, 1002))
	if len(mark) > 100 {
		t.Errorf("what is an hour old is still in the bookmark: %d bytes", len(mark))
	}
}

func TestBookmarkStaysSmall(t *testing.T) {
	r := &record{limit: 500}
	read := r.reader(t)
	for n := 1; n <= 3000; n++ {
		r.add(start.Add(time.Duration(n)*time.Millisecond), n)
	}
	told, mark := read("")
	equal(t, told, refs(1, 3000))
	if len(mark) > 4096 {
		t.Errorf("%d bytes", len(mark))
	}
}

func TestFeedAtRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		r := &record{limit: 1 + random.IntN(20), atMost: random.IntN(3) * random.IntN(10)}
		read := r.reader(t)
		mark, at, n := "", start, 0
		var all []string
		for range 15 {
			for range random.IntN(30) {
				at = at.Add(time.Duration(random.IntN(3)*random.IntN(30000)) * time.Millisecond)
				n++
				late := time.Duration(random.IntN(2)*random.IntN(100)) * time.Second
				r.add(maxTime(start, at.Add(-late)), n)
			}
			var told []string
			told, mark = read(mark)
			all = append(all, told...)
		}
		slices.SortFunc(all, func(a, b string) int { x, _ := strconv.Atoi(a); y, _ := strconv.Atoi(b); return x - y })
		if !slices.Equal(all, refs(1, n)) {
			t.Fatalf("%d events, told %v", n, all)
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func TestFeedAsABareArrayAndFromABookmarkThatIsNone(t *testing.T) {
	r := &record{bare: true}
	read := r.reader(t)
	r.add(start, 1)
	told, mark := read("")
	equal(t, told, refs(1, 1))
	told, _ = read(mark)
	equal(t, told, nil)
	told, _ = read("nonsense")
	equal(t, told, refs(1, 1))
}

func TestFeedOfOtherShapesIsNotBelieved(t *testing.T) {
	for _, body := range []string{`7`, `"x"`, `{"Resources": 7}`, `{"Resources": {}}`} {
		h := newHID(t)
		h.says("GET /events", 200, body)
		_, err := h.client().Feed(t.Context(), "", start, 0)
		isKind(t, err, provider.ErrUnavailable)
	}
}
