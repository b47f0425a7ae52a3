package e2e

import (
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mobilecred/mobilecred/internal/webapi/openapi"
)

// route is one operation of the API's document, with the scope it asks for; none means that no token is needed.
type route struct{ method, path, scope string }

func documented(t *testing.T) (routes []route) {
	t.Helper()
	var document struct {
		Paths map[string]map[string]yaml.Node
	}
	if err := yaml.Unmarshal(openapi.Document, &document); err != nil {
		t.Fatal(err)
	}
	for path, operations := range document.Paths {
		for method, node := range operations {
			if !slices.Contains([]string{"get", "put", "patch", "post", "delete"}, method) {
				continue
			}
			var operation struct {
				Security *[]struct{ Token []string }
			}
			if err := node.Decode(&operation); err != nil {
				t.Fatal(err)
			}
			if operation.Security == nil {
				t.Fatalf("%s %s does not say which scope it asks for", method, path)
			}
			r := route{strings.ToUpper(method), path, ""}
			if s := *operation.Security; len(s) > 0 {
				r.scope = strings.Join(s[0].Token, " ")
			}
			routes = append(routes, r)
		}
	}
	return routes
}

func TestNoTokenNoScopeOnEveryRoute(t *testing.T) {
	t.Parallel()
	r := shared(t)
	scopes := []string{"credentials:read", "credentials:write", "profiles:write"}
	parameters := strings.NewReplacer("{holderId}", "unknown", "{credentialId}", "none", "{profileId}", "nothing",
		"{account}", "nowhere", "{token}", "none")
	public := 0
	routes := documented(t)
	for _, x := range routes {
		if x.scope == "" {
			public++
			continue
		}
		if !slices.Contains(scopes, x.scope) {
			t.Fatalf("%v asks for a scope of its own", x)
		}
		others := slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == x.scope })
		parts := strings.Split(r.token(), ".")
		for _, try := range []struct {
			name, authorization string
			want                int
		}{
			{"no token", "", 401},
			{"nonsense", "Bearer nonsense", 401},
			{"another scheme", "Basic " + r.token(), 401},
			{"an unsigned token", "Bearer " + parts[0] + "." + parts[1] + ".", 401},
			{"a token of which another was signed", "Bearer " + strings.Split(r.token(x.scope), ".")[0] + "." +
				parts[1] + "." + strings.Split(r.token(x.scope), ".")[2], 401},
			{"the other scopes", "Bearer " + r.token(others...), 403},
			{"a scope that only looks alike", "Bearer " + r.token(x.scope+"r", "x"+x.scope, strings.ToUpper(x.scope)),
				403},
		} {
			var body any
			if x.method != "GET" {
				body = m{}
			}
			a := r.call(x.method, parameters.Replace(x.path), body, "Authorization", try.authorization)
			if a.status != try.want {
				t.Errorf("%s %s with %s: got %d %s, want %d", x.method, x.path, try.name, a.status, a.body, try.want)
			}
		}
		var body any
		if x.method != "GET" {
			body = m{"unknown": true} // nothing comes of it
		}
		if a := r.call(x.method, parameters.Replace(x.path), body, "Authorization",
			"Bearer "+r.token(x.scope)); a.status == 401 || a.status == 403 || a.status >= 500 {
			t.Errorf("%s %s with its scope: %d %s", x.method, x.path, a.status, a.body)
		}
	}
	if public != 1 || len(routes) < 20 {
		t.Errorf("%d of %d routes need no token; the webhook is to be the only one", public, len(routes))
	}
}
