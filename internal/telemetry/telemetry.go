// Package telemetry is how functions say what they do: structured logs, and metrics in CloudWatch's embedded format,
// both as lines of JSON on standard output, which Lambda collects.
//
// What is worth saying is decided where it is said. No line may hold a name, an e-mail address, a code or a secret.
package telemetry

import (
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Namespace is where CloudWatch keeps the metrics.
const Namespace = "mobilecred"

// Logger writes lines of JSON to w, under the name Lambda's log levels look for.
func Logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: replace}))
}

// replace names the time as Lambda does, and writes errors as their text.
func replace(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		a.Key = "timestamp"
	}
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.StringValue(err.Error())
	}
	return a
}

type (
	metric struct {
		Name string
		Unit string
	}
	directive struct {
		Namespace  string
		Dimensions [][]string
		Metrics    []metric
	}
	header struct {
		Timestamp         int64
		CloudWatchMetrics []directive
	}
)

// Counter returns a function that raises a metric by one. It is safe for concurrent use.
func Counter(w io.Writer, now func() time.Time) func(name string) {
	say := Gauge(w, now)
	return func(name string) { say(name, 1) }
}

// Gauge returns a function that says the value of a metric. It is safe for concurrent use.
func Gauge(w io.Writer, now func() time.Time) func(name string, value float64) {
	var mu sync.Mutex
	return func(name string, value float64) {
		line, err := json.Marshal(map[string]any{
			"_aws": header{now().UnixMilli(), []directive{{Namespace, [][]string{{}}, []metric{{name, "Count"}}}}},
			name:   value,
		})
		if err != nil {
			panic(err) // numbers and strings always marshal
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = w.Write(append(line, '\n'))
	}
}
