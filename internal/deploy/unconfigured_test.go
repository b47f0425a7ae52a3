package deploy_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
)

// overHTTP are the functions that answer HTTP; the others handle events.
var overHTTP = []string{"assign", "directory", "lookup", "revoke", "webhook"}

func TestWithoutConfigurationEveryFunctionAsksForWorkAndAnswersIt(t *testing.T) {
	noticeChanges(t)
	dir := t.TempDir()
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", dir, "./functions/...")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the functions: %v\n%s", err, out)
	}
	for _, name := range functions(t) {
		t.Run(name, func(t *testing.T) {
			answers, log := work(t, filepath.Join(dir, name))
			kind, text := "error", wiring.ErrUnconfigured.Error()
			if slices.Contains(overHTTP, name) {
				kind, text = "response", `"statusCode":500`
			}
			for _, answer := range answers {
				if !strings.HasPrefix(answer, kind+" ") || !strings.Contains(answer, text) {
					t.Errorf("it answers with the %s, want the %s %s", answer, kind, text)
				}
			}
			// Beside it the runtime's own library logs the error that an event ended in.
			if strings.Count(log, `"level":"ERROR"`) != 1 || strings.Count(log, "AWS_REGION") != 1 {
				t.Errorf("it logs %q, want one error that names what is missing", log)
			}
		})
	}
}

// work starts a function's binary with an empty environment at a Lambda Runtime API that hands it two events, one after
// the other. It returns what the function answers to each, as "response" or "error" and the body, and what it logs
// until it asks for a third.
func work(t *testing.T, binary string) (answers []string, log string) {
	t.Helper()
	const invocation = "/2018-06-01/runtime/invocation/"
	posted, idle := make(chan string, 2), make(chan struct{})
	var handed atomic.Int32
	runtime := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, _ := io.ReadAll(r.Body)
			posted <- r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:] + " " + string(body)
			w.WriteHeader(http.StatusAccepted)
			return
		}
		if r.URL.Path != invocation+"next" {
			http.NotFound(w, r)
			return
		}
		if handed.Add(1) > 2 {
			close(idle)
			<-r.Context().Done()
			return
		}
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "1")
		w.Header().Set("Lambda-Runtime-Deadline-Ms", "32503680000000")
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-2:1:function:f")
		_, _ = io.WriteString(w, `{"requestContext":{"requestId":"request-1"}}`)
	}))
	defer runtime.Close()

	var out bytes.Buffer
	function := exec.Command(binary)
	function.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(runtime.URL, "http://")}
	function.Stdout = &out
	if err := function.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = function.Wait()
		close(ended)
	}()
	stop := func() {
		_ = function.Process.Kill()
		<-ended
	}
	select {
	case <-idle:
		stop()
		return []string{<-posted, <-posted}, out.String()
	case <-ended:
		t.Fatalf("it ends: %s", out.String())
	case <-time.After(20 * time.Second):
		stop()
		t.Fatalf("it does not ask for a third event within 20 s: %s", out.String())
	}
	return nil, ""
}
