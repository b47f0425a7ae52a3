package dynamodb_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/mobilecred/mobilecred/internal/samlocal/dynamodb"
)

func TestTheEngineAnswersUntilStopped(t *testing.T) {
	endpoint, stop, err := dynamodb.Start(context.Background(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	resp, err := http.Get(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("an unsigned request: got %d, want 400", resp.StatusCode)
	}
	stop()
	if _, err := http.Get(endpoint); err == nil {
		t.Error("the engine still answers after stop")
	}
	stop()
}

func TestWhatIsMissingIsNamedInOneLine(t *testing.T) {
	busy, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	tests := []struct {
		name, path, dir string
		port            int
		want            string
	}{
		{name: "busy port", port: busy.Addr().(*net.TCPAddr).Port, want: "is busy"},
		{name: "no java", path: "/nonexistent", want: "no java in PATH"},
		{name: "outside the tree", dir: "/", want: "no go.mod"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.path != "" {
				t.Setenv("PATH", tt.path)
			}
			if tt.dir != "" {
				t.Chdir(tt.dir)
			}
			_, _, err := dynamodb.Start(context.Background(), "", tt.port)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
		})
	}
}
