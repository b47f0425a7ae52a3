package issuance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// What belongs together is written together only if every change is built in one place.
func TestOnlyTheBuilderMakesChanges(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	built := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok || s.Sel.Name != "Change" {
				return true
			}
			if x, ok := s.X.(*ast.Ident); !ok || x.Name != "credential" {
				return true
			}
			at := fset.Position(s.Pos())
			if built++; at.Filename != "change.go" {
				t.Errorf("%s speaks of credential.Change; only change.go may", at)
			}
			return true
		})
	}
	if built == 0 {
		t.Error("change.go builds no credential.Change: this test looks in the wrong place")
	}
}
