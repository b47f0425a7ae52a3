package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answer is one HTTP answer, read to its end.
type answer struct {
	t      *testing.T
	call   string
	status int
	header http.Header
	body   []byte
}

// want stops the test unless the status is one of those.
func (a answer) want(status ...int) answer {
	a.t.Helper()
	if !slices.Contains(status, a.status) {
		a.t.Fatalf("%s: got %d %.500s, want %v", a.call, a.status, a.body, status)
	}
	return a
}

// into decodes the JSON body.
func (a answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%s: %v in %d %.500s", a.call, err, a.status, a.body)
	}
}

// code is a problem document's.
func (a answer) code() string {
	a.t.Helper()
	var problem struct{ Code string }
	a.into(&problem)
	return problem.Code
}

var client = &http.Client{Timeout: 40 * time.Second}

// try makes a call and returns its failure; what runs beside the test uses it. Paths below /v1 are the API's, with a
// token of all scopes unless the headers, name after value, say something else about Authorization (an empty value: no
// header). Any other path is the world's. The body is JSON unless it is a []byte.
func (r *run) try(method, path string, body any, headers ...string) (answer, error) {
	at, header := r.world(path), http.Header{}
	if body != nil {
		header.Set("Content-Type", "application/json")
	}
	if strings.HasPrefix(path, "/v1/") {
		at = r.api(path)
		token, err := r.tryToken()
		if err != nil {
			return answer{}, err
		}
		header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		if header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			header.Del(headers[i])
		}
	}
	text, raw := body.([]byte)
	if body != nil && !raw {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return answer{}, err
		}
	}
	req, err := http.NewRequest(method, at, bytes.NewReader(text))
	if err != nil {
		return answer{}, err
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{r.t, method + " " + path, resp.StatusCode, resp.Header, got}, err
}

// call is try for the test's own goroutine.
func (r *run) call(method, path string, body any, headers ...string) answer {
	r.t.Helper()
	a, err := r.try(method, path, body, headers...)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (r *run) get(path string) answer {
	r.t.Helper()
	return r.call("GET", path, nil)
}

func (r *run) post(path string, body any, headers ...string) answer {
	r.t.Helper()
	return r.call("POST", path, body, headers...)
}

func (r *run) put(path string, body any, headers ...string) answer {
	r.t.Helper()
	return r.call("PUT", path, body, headers...)
}

func (r *run) delete(path string) answer {
	r.t.Helper()
	return r.call("DELETE", path, nil)
}

func (r *run) api(path string) string { return r.at("PORT", path) }

func (r *run) world(path string) string { return r.at("WORLD_PORT", path) }

func (r *run) at(port, path string) string {
	return "http://127.0.0.1:" + strconv.Itoa(r.ports[port]) + path
}

// token is one with these scopes, or with all there are.
func (r *run) token(scopes ...string) string {
	r.t.Helper()
	token, err := r.tryToken(scopes...)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *run) tryToken(scopes ...string) (string, error) {
	scope := strings.Join(scopes, " ")
	r.mu.Lock()
	defer r.mu.Unlock()
	if token := r.tokens[scope]; token != "" {
		return token, nil
	}
	path := "/token"
	if len(scopes) > 0 {
		path += "?scope=" + url.QueryEscape(scope)
	}
	resp, err := client.Get(r.world(path))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	token, err := io.ReadAll(resp.Body)
	r.tokens[scope] = string(token)
	return string(token), err
}

// m is a JSON object.
type m map[string]any
