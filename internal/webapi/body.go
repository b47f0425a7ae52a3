package webapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math"
	"mime"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/problem"
)

const maxJSON = 64 << 10

// response encodes an answer.
func (a answer) response() events.APIGatewayV2HTTPResponse {
	res := problem.JSON(a.status, a.body)
	maps.Copy(res.Headers, a.header)
	return res
}

// body returns the request's body as it was sent, at most limit bytes (else problem.CodeTooLarge).
func (c *call) body(limit int) ([]byte, error) {
	data := []byte(c.req.Body)
	if c.req.IsBase64Encoded {
		var err error
		if data, err = base64.StdEncoding.DecodeString(c.req.Body); err != nil {
			return nil, problem.Fault("the gateway's base64 is damaged")
		}
	}
	if len(data) > limit {
		return nil, credential.Refuse(problem.CodeTooLarge, "The body may have "+strconv.Itoa(limit)+" bytes.")
	}
	return data, nil
}

// contentType is the media type of the body, empty when none was sent, and whether its charset is one we read.
func (c *call) contentType() (string, bool) {
	header, _ := c.header("Content-Type")
	if header == "" {
		return "", true
	}
	media, params, err := mime.ParseMediaType(header)
	charset := params["charset"]
	return media, err == nil && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

// object reads one object of a JSON body and collects everything that is wrong in it, so that the portal gets all
// errors at once. Fields are read by name; done then reports those that were not read. JSON null counts as absent, and
// so does a text that is empty, or in which nothing can be seen.
type object struct {
	at     string // JSON pointer
	fields map[string]any
	asked  map[string]bool
	wrong  *[]credential.FieldError
}

// json reads the body as one JSON object, and an empty body as an empty object if that is allowed. It returns an error
// at once when the body is not JSON at all: problem.CodeTooLarge, problem.CodeUnsupportedMediaType,
// problem.CodeMalformedJSON. The second result is a hash of the value: it is the same for bodies that differ only in
// white space.
func (c *call) json(emptyAllowed bool) (*object, string, error) {
	data, err := c.body(maxJSON)
	if err != nil {
		return nil, "", err
	}
	if len(data) == 0 && emptyAllowed {
		return &object{fields: map[string]any{}, asked: map[string]bool{}, wrong: new([]credential.FieldError)}, "", nil
	}
	if media, ok := c.contentType(); !ok || media != "" && media != "application/json" {
		return nil, "", credential.Refuse(problem.CodeUnsupportedMediaType,
			"The body has to be application/json in UTF-8.")
	}
	return parse(data)
}

// mergePatch is the media type of a JSON merge patch (RFC 7396).
const mergePatch = "application/merge-patch+json"

// patch reads the body as a JSON merge patch of an object, with the errors of json. The media type has to be named,
// because it alone says what the body of a PATCH means; a refusal names it in Accept-Patch (RFC 5789).
func (c *call) patch() (*object, error) {
	data, err := c.body(maxJSON)
	if err != nil {
		return nil, err
	}
	if media, ok := c.contentType(); !ok || media != mergePatch {
		c.refusal = map[string]string{"Accept-Patch": mergePatch}
		return nil, credential.Refuse(problem.CodeUnsupportedMediaType,
			"The body of a PATCH has to be "+mergePatch+" in UTF-8.")
	}
	o, _, err := parse(data)
	return o, err
}

// parse reads data as one JSON object, and returns it with the hash that json returns.
func parse(data []byte) (*object, string, error) {
	o := &object{fields: map[string]any{}, asked: map[string]bool{}, wrong: new([]credential.FieldError)}
	if !utf8.Valid(data) || !json.Valid(data) {
		return nil, "", credential.Refuse(problem.CodeMalformedJSON, "")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	value := o.read(d, "")
	canonical, err := json.Marshal(value)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(canonical)
	fields, ok := value.(map[string]any)
	if !ok {
		o.note("", "wrong_type", "The body has to be a JSON object.")
	}
	o.fields = fields
	return o, hex.EncodeToString(sum[:]), nil
}

// read builds the next value, which is known to be valid JSON, and notes field names that are given twice:
// encoding/json alone would silently take the last one.
func (o *object) read(d *json.Decoder, at string) any {
	token, err := d.Token()
	if err != nil {
		panic(err)
	}
	switch token {
	case json.Delim('['):
		list := []any{}
		for d.More() {
			list = append(list, o.read(d, at+"/"+strconv.Itoa(len(list))))
		}
		_, _ = d.Token()
		return list
	case json.Delim('{'):
		fields := map[string]any{}
		for d.More() {
			name, _ := d.Token()
			pointer := at + "/" + escape(name.(string))
			if _, twice := fields[name.(string)]; twice {
				o.note(pointer, "duplicate_field", "The field is given more than once.")
			}
			fields[name.(string)] = o.read(d, pointer)
		}
		_, _ = d.Token()
		return fields
	}
	return token
}

// escape writes a name as a reference token of a JSON pointer (RFC 6901).
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

func (o *object) note(pointer, code, detail string) {
	*o.wrong = append(*o.wrong, credential.FieldError{Pointer: pointer, Code: code, Detail: detail})
}

func (o *object) noteField(name, code, detail string) { o.note(o.at+"/"+escape(name), code, detail) }

// again returns an object with the same fields, none of them read yet, and with what was wrong in it before.
func (o *object) again() *object {
	wrong := slices.Clone(*o.wrong)
	return &object{at: o.at, fields: o.fields, asked: map[string]bool{}, wrong: &wrong}
}

// has says whether a field is there, be it null. It does not count as read by that.
func (o *object) has(name string) bool {
	_, there := o.fields[name]
	return there
}

// get returns a field's value, nil when it is absent or null.
func (o *object) get(name string) any {
	o.asked[name] = true
	return o.fields[name]
}

// rule checks a text. Its detail tells the portal's developers what is allowed; where that depends on the text, why
// stands for both, and says "" for a text that is right.
type rule struct {
	code, detail string
	holds        func(string) bool
	why          func(string) string
}

// objection says what is wrong with a text, "" for nothing.
func (r rule) objection(s string) string {
	switch {
	case r.why != nil:
		return r.why(s)
	case r.holds(s):
		return ""
	}
	return r.detail
}

// text reads a text, trimmed, into a variable that holds the default. It reports whether the field was right.
func (o *object) text(name string, into *string, allowed rule) bool {
	value := o.get(name)
	s, ok := value.(string)
	if value != nil && !ok {
		o.noteField(name, "wrong_type", "Must be a text.")
		return false
	}
	if s = strings.TrimSpace(s); s == "" {
		return true
	}
	if objection := allowed.objection(s); objection != "" {
		o.noteField(name, allowed.code, objection)
		return false
	}
	if credential.IsBlank(s) {
		return true
	}
	*into = s
	return true
}

// required reads a text that must be there. When the value is not an object at all, it does not report each missing
// field as well.
func (o *object) required(name string, into *string, allowed rule) {
	if o.text(name, into, allowed) && *into == "" && o.fields != nil {
		o.noteField(name, "required", "Must be given.")
	}
}

// integer reads a whole number. As in a JSON schema, 28.0 and 2.8e1 are whole numbers.
func (o *object) integer(name string, into *int, from, to int) {
	value := o.get(name)
	if value == nil {
		return
	}
	number, ok := value.(json.Number)
	n, err := strconv.ParseFloat(number.String(), 64)
	switch {
	case !ok || err == nil && n != math.Trunc(n):
		o.noteField(name, "wrong_type", "Must be a whole number.")
	case err != nil || n < float64(from) || n > float64(to):
		o.noteField(name, "out_of_range", "Must be from "+strconv.Itoa(from)+" to "+strconv.Itoa(to)+".")
	default:
		*into = int(n)
	}
}

func (o *object) flag(name string, into *bool) {
	value := o.get(name)
	b, ok := value.(bool)
	if value != nil && !ok {
		o.noteField(name, "wrong_type", "Must be true or false.")
		return
	}
	*into = b
}

// moment reads an RFC 3339 time, nil when it is absent. It allows the years that every system involved can write.
func (o *object) moment(name string) *time.Time {
	value := o.get(name)
	if value == nil {
		return nil
	}
	s, ok := value.(string)
	if !ok {
		o.noteField(name, "wrong_type", "Must be a text, an RFC 3339 time.")
		return nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		o.noteField(name, "invalid_format", "Must be an RFC 3339 time such as 2030-01-31T17:00:00Z.")
		return nil
	}
	if t = utc(t); t.Year() < 1970 || t.Year() > 9999 {
		o.noteField(name, "out_of_range", "Must be in the years 1970 to 9999.")
		return nil
	}
	return &t
}

// object reads a nested object; an absent one as an empty one.
func (o *object) object(name string) *object {
	value := o.get(name)
	fields, ok := value.(map[string]any)
	if value != nil && !ok {
		o.noteField(name, "wrong_type", "Must be an object.")
	}
	return &object{at: o.at + "/" + escape(name), fields: fields, asked: map[string]bool{}, wrong: o.wrong}
}

// done notes the fields that were not read. Those named in readOnly are fields of answers only, and the note says so.
func (o *object) done(readOnly ...string) {
	for _, name := range slices.Sorted(maps.Keys(o.fields)) {
		switch {
		case o.asked[name]:
		case slices.Contains(readOnly, name):
			o.noteField(name, "read_only", "The field is in answers only.")
		default:
			o.noteField(name, "unknown_field", "There is no such field; names are case-sensitive.")
		}
	}
}

// invalid returns a CodeValidationFailed for everything that is wrong, nil when nothing is.
func invalid(wrong ...[]credential.FieldError) error {
	if all := slices.Concat(wrong...); len(all) > 0 {
		return credential.Invalid(all...)
	}
	return nil
}

// etagPattern is what our ETags look like; the API's document has the same.
var etagPattern = regexp.MustCompile(`^"([1-9][0-9]{0,18})"$`)

// ifMatch reads the revision that an If-Match names, 0 when there is none. It has to be one of our ETags, not a list
// and not *.
func (c *call) ifMatch() (int64, []credential.FieldError) {
	header, ok := c.header("If-Match")
	if !ok {
		return 0, nil
	}
	digits := etagPattern.FindStringSubmatch(header)
	if digits == nil {
		return 0,
			[]credential.FieldError{{Code: "invalid_format",
				Detail: `Header If-Match: one ETag as an answer gave it, such as "3".`}}
	}
	revision, _ := strconv.ParseInt(digits[1], 10, 64) // the greatest number for what is greater: no revision is that
	return revision, nil
}

// ifNoneMatch says whether the call is to create only, which is all that an If-None-Match can ask of a PUT.
func (c *call) ifNoneMatch() (bool, []credential.FieldError) {
	header, ok := c.header("If-None-Match")
	if ok && header != "*" {
		return false, []credential.FieldError{{Code: "invalid_format",
			Detail: "Header If-None-Match: only *, which asks to create and not to replace."}}
	}
	return ok, nil
}

func etag(revision int64) map[string]string {
	return map[string]string{"ETag": `"` + strconv.FormatInt(revision, 10) + `"`}
}
