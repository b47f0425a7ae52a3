package samlocal

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// functionLog keeps what a function's processes print in <dir>/<id>.log and
// repeats warnings and errors to terminal.
func functionLog(dir, id string, terminal io.Writer) (func(line string), error) {
	f, err := os.OpenFile(filepath.Join(dir, id+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(f, line)
		if alarming(line) {
			fmt.Fprintf(terminal, "%s  %s\n", id, line)
		}
	}, nil
}

func alarming(line string) bool {
	var structured struct{ Level string }
	if json.Unmarshal([]byte(line), &structured) == nil && structured.Level != "" {
		return strings.EqualFold(structured.Level, "warn") || strings.EqualFold(structured.Level, "error")
	}
	return strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") ||
		strings.Contains(line, "Status: error")
}
