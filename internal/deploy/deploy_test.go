package deploy_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mobilecred/mobilecred/internal/deploy"
)

const (
	root   = "../.."
	module = "github.com/mobilecred/mobilecred"
	sdk    = "github.com/aws/aws-sdk-go-v2/"
)

// adapters lists, for every function, what it may link of all that talks to the world outside: AWS's services by the
// name of their client, and adapters of providers. It mirrors the function's rights in the template.
var adapters = map[string][]string{
	"assign":    {"dynamodb", "provider/origo", "secretsmanager", "sesv2"},
	"revoke":    {"dynamodb", "provider/origo", "secretsmanager", "sesv2"},
	"lookup":    {"dynamodb"},
	"directory": {"dynamodb"},
	"webhook":   {"eventbridge", "provider/origo", "secretsmanager"},
	"cleanup":   {"dynamodb", "provider/origo", "secretsmanager", "sesv2"},
	"notify":    {"eventbridge"},
	"sweep":     {"dynamodb", "provider/origo", "secretsmanager", "sesv2"},
}

// A function needs time for two attempts at the table, of 1.5 s each, before the second that it keeps for its answer,
// and has to answer before the gateway gives up.
func TestEveryFunctionOverHTTPCanAnswerBeforeItsTimeLimitAndTheGateways(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	type function struct {
		Timeout int `yaml:"Timeout"`
		Events  map[string]struct {
			Type string `yaml:"Type"`
		} `yaml:"Events"`
	}
	var template struct {
		Globals struct {
			Function function `yaml:"Function"`
		} `yaml:"Globals"`
		Resources map[string]struct {
			Type       string    `yaml:"Type"`
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	const needed, gateway = 5, 30
	found := 0
	for id, r := range template.Resources {
		if r.Type != "AWS::Serverless::Function" {
			continue
		}
		f := function{Timeout: template.Globals.Function.Timeout}
		if err := r.Properties.Decode(&f); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		for _, e := range f.Events {
			if e.Type != "HttpApi" {
				continue
			}
			if found++; f.Timeout < needed || f.Timeout >= gateway {
				t.Errorf("%s has %d s, want at least %d and less than the gateway's %d", id, f.Timeout, needed, gateway)
			}
		}
	}
	if found == 0 {
		t.Error("no function of the template answers HTTP")
	}
}

func TestTheTemplateAndTheDirectoriesNameTheSameFunctions(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct {
			Type string `yaml:"Type"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	var inTemplate, inTree []string
	for id, r := range template.Resources {
		if r.Type == "AWS::Serverless::Function" {
			inTemplate = append(inTemplate, id)
		}
	}
	for _, name := range functions(t) {
		inTree = append(inTree, deploy.LogicalID(name))
	}
	slices.Sort(inTemplate)
	slices.Sort(inTree)
	if !slices.Equal(inTemplate, inTree) {
		t.Errorf("template.yaml has %v, functions/ has %v", inTemplate, inTree)
	}
}

func TestEveryFunctionIsSmall(t *testing.T) {
	noticeChanges(t)
	names := functions(t)
	sizes := make(map[string]int64)
	for _, name := range names {
		for _, arch := range []string{"arm64", "amd64"} {
			_, size, err := deploy.Build(root, name, arch, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if size > deploy.MaxSize {
				t.Errorf("%s for %s has %d bytes, more than %d", name, arch, size, deploy.MaxSize)
			}
			sizes[name+arch] = size
		}
	}
	t.Logf("%-10s %9s %9s", "function", "arm64", "amd64")
	for _, name := range names {
		t.Logf("%-10s %6.2f MB %6.2f MB", name, float64(sizes[name+"arm64"])/1e6, float64(sizes[name+"amd64"])/1e6)
	}
}

func TestEveryFunctionLinksOnlyTheAdaptersItUses(t *testing.T) {
	noticeChanges(t)
	service := regexp.MustCompile("^" + sdk + "service/([a-z0-9]+)$")
	provider := regexp.MustCompile("^" + module + "/internal/(provider/[a-z0-9]+)$")
	for _, name := range functions(t) {
		cmd := exec.Command("go", "list", "-deps", "-tags", "lambda.norpc", "./functions/"+name)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("listing what %s links: %v\n%s", name, err, said(err))
		}
		var linked []string
		for pkg := range strings.Lines(string(out)) {
			pkg = strings.TrimSpace(pkg)
			if m := service.FindStringSubmatch(pkg); m != nil {
				linked = append(linked, m[1])
			}
			// Accounts are read from their secrets, and are counted as that.
			if m := provider.FindStringSubmatch(pkg); m != nil && m[1] != "provider/accounts" {
				linked = append(linked, m[1])
			}
			if name == "lookup" && pkg == module+"/internal/provider" {
				t.Error("lookup links provider code")
			}
			switch pkg {
			case sdk + "config", "net/rpc", "testing":
				t.Errorf("%s links %s: start-up time and megabytes for nothing", name, pkg)
			}
			if dir, ours := directory(pkg); ours && fits(dir, workshop) > 0 {
				t.Errorf("%s links %s, which is for tests and local runs", name, dir)
			}
		}
		slices.Sort(linked)
		want, ok := adapters[name]
		if !ok {
			t.Errorf("%s is not in this test's table", name)
		}
		if !slices.Equal(linked, want) {
			t.Errorf("%s links %v, want %v", name, linked, want)
		}
	}
}

func functions(t *testing.T) []string {
	t.Helper()
	names, err := deploy.Functions(root)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// noticeChanges reads the directories that functions are built from. go test keeps a result until a file or directory
// that the test itself opened has changed, and does not see what the compiler opens.
func noticeChanges(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"functions", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "Makefile"} {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Fatal(err)
		}
	}
}
