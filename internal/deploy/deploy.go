// Package deploy checks what is deployed: the template as CloudFormation gets it, the size of every function and what
// it links. Its tests hold the checks; those of the expanded template carry the build tag verify, because the SAM
// translator needs Python. Its command startup measures.
//
// Nothing that runs in a function or on a developer's machine belongs here.
package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// MaxSize is the most a function's binary may weigh, in bytes. Lambda fetches and maps it at every cold start.
const MaxSize = 12 * 1000 * 1000

// Functions names the directories under functions/ of the source tree at root, in alphabetical order.
func Functions(root string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, "functions"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// LogicalID is what the template calls the function in functions/<name>.
func LogicalID(name string) string {
	return strings.ToUpper(name[:1]) + name[1:] + "Function"
}

// Build builds a function into dir by the Makefile's target, as sam build does, for the architecture goarch. It returns
// the path of the binary and its size in bytes. The error holds what make printed.
func Build(root, name, goarch, dir string) (path string, size int64, err error) {
	cmd := exec.Command("make", "build-"+LogicalID(name), "ARTIFACTS_DIR="+dir, "GOARCH="+goarch)
	cmd.Dir = root
	// An outer make would hand its flags and job slots down.
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", 0, fmt.Errorf("building %s for %s: %w\n%s", name, goarch, err, out)
	}
	path = filepath.Join(dir, "bootstrap")
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	return path, info.Size(), nil
}
