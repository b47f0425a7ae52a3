package world

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(path string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	Handler().ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	return rec
}

func TestServesThePageAndItsAssets(t *testing.T) {
	for path, want := range map[string]struct {
		status      int
		contentType string
	}{
		"/":                  {200, "text/html"},
		"/assets/world.css":  {200, "text/css"},
		"/assets/world.js":   {200, "text/javascript"},
		"/assets/icon.svg":   {200, "image/svg+xml"},
		"/assets/nothing.js": {404, ""},
		"/else":              {404, ""},
		"/world.go":          {404, ""},
	} {
		rec := get(path)
		if rec.Code != want.status || !strings.HasPrefix(rec.Header().Get("Content-Type"), want.contentType) {
			t.Errorf(
				"%s: %d %s, want %d %s",
				path,
				rec.Code,
				rec.Header().Get("Content-Type"),
				want.status,
				want.contentType,
			)
		}
		if got := rec.Header().Get("Content-Security-Policy"); got != policy {
			t.Errorf("%s has the policy %q", path, got)
		}
	}
	rec := httptest.NewRecorder()
	Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/", nil))
	if rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d", rec.Code)
	}
}

// What a name, a mail or an event contains stays text: the page has no way to make markup or script of it.
func TestThePageCannotTurnTextIntoMarkup(t *testing.T) {
	for name, forbidden := range map[string]*regexp.Regexp{
		"world.js":   regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|eval\(|new Function|javascript:`),
		"world.html": regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son[a-z]+=|allow-scripts|allow-same-origin`),
	} {
		body := get("/assets/" + name).Body.String()
		if hit := forbidden.FindString(body); hit != "" {
			t.Errorf("%s has %q", name, hit)
		}
	}
	if !strings.Contains(get("/").Body.String(), `sandbox="allow-popups`) {
		t.Error("a mail is shown without a sandbox")
	}
}

func TestThePageLoadsNothingFromElsewhere(t *testing.T) {
	elsewhere := regexp.MustCompile(`(?:https?:)?//[a-z0-9-]+\.[a-z]|@import|url\(`)
	err := fs.WalkDir(assets, "assets", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := assets.ReadFile(path)
		text := strings.ReplaceAll(string(data), "http://www.w3.org/", "") // a namespace, never loaded
		text = strings.ReplaceAll(text, "url(#", "")                       // inside the same picture
		if hit := elsewhere.FindString(text); hit != "" {
			t.Errorf("%s refers to %q", path, hit)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every element the script asks for by id is in the page.
func TestTheScriptFindsItsElements(t *testing.T) {
	page, script := get("/").Body.String(), get("/assets/world.js").Body.String()
	for _, id := range regexp.MustCompile(`\$\("([a-z-]+)"\)`).FindAllStringSubmatch(script, -1) {
		if !strings.Contains(page, `id="`+id[1]+`"`) {
			t.Errorf("the page has no element %q", id[1])
		}
	}
}
