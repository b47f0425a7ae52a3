package samlocal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

// build compiles every function for this machine with the flags of a
// deployment, to <dir>/<logical id>/bootstrap. One call of the compiler shares
// its work among them, and links nothing that did not change.
func build(ctx context.Context, root, dir string, functions []*template.Function) error {
	gotool, err := exec.LookPath("go")
	if err != nil {
		return errors.New("functions are built with Go: no go in PATH")
	}
	out := filepath.Join(dir, "functions")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-tags", "lambda.norpc", "-o", out +
		string(filepath.Separator)}
	for _, f := range functions {
		if _, err := os.Stat(filepath.Join(root, f.Package)); err != nil {
			return fmt.Errorf("%s: its code is expected in %s, which does not exist", f.LogicalID, f.Package)
		}
		if p := "./" + filepath.ToSlash(f.Package); !slices.Contains(args, p) {
			args = append(args, p)
		}
	}
	cmd := exec.CommandContext(ctx, gotool, args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the functions: %w\n%s", err, strings.TrimSpace(string(text)))
	}
	for _, f := range functions {
		path := binary(dir, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		_ = os.Remove(path)
		if err := os.Symlink(filepath.Join("..", "functions", filepath.Base(f.Package)), path); err != nil {
			return err
		}
	}
	return nil
}

func binary(dir string, f *template.Function) string {
	return filepath.Join(dir, f.LogicalID, "bootstrap")
}
