package dynamodb

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Error is an error answer of the engine.
type Error struct {
	Code    string // without the namespace, e.g. ResourceNotFoundException
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Call makes one call of the JSON protocol, e.g. DynamoDB_20120810.CreateTable
// or DynamoDBStreams_20120810.GetRecords, without the weight of an SDK client.
// An error answer is returned as *Error.
func Call(ctx context.Context, endpoint, target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", target)
	// A local engine reads who calls and checks no signature.
	req.Header.Set("Authorization",
		"AWS4-HMAC-SHA256 Credential=local/20260101/local/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return json.NewDecoder(resp.Body).Decode(out)
	}
	var e struct {
		Type    string `json:"__type"`
		Message string
	}
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return fmt.Errorf("%s: %s", target, resp.Status)
	}
	return &Error{e.Type[strings.LastIndex(e.Type, "#")+1:], e.Message}
}
