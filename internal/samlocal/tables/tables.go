// Package tables creates the template's tables in a DynamoDB engine, for the
// local run and for tests that want the deployed table and no imitation of it.
package tables

import (
	"context"
	"errors"
	"fmt"

	"github.com/mobilecred/mobilecred/internal/samlocal/dynamodb"
	"github.com/mobilecred/mobilecred/internal/samlocal/template"
)

const api = "DynamoDB_20120810."

// Ensure creates t at endpoint with its indexes, stream and time to live, and
// does nothing when it exists.
func Ensure(ctx context.Context, endpoint string, t *template.Table) error {
	name := map[string]any{"TableName": t.Name}
	var refused *dynamodb.Error
	if err := dynamodb.Call(ctx, endpoint, api+"DescribeTable", name, &struct{}{}); err == nil {
		return nil
	} else if !errors.As(err, &refused) || refused.Code != "ResourceNotFoundException" {
		return fmt.Errorf("table %s: %w", t.Name, err)
	}
	if err := dynamodb.Call(ctx, endpoint, api+"CreateTable", t.Create, &struct{}{}); err != nil {
		return fmt.Errorf("table %s: %w", t.Name, err)
	}
	if t.TTLAttribute == "" {
		return nil
	}
	ttl := map[string]any{"TableName": t.Name,
		"TimeToLiveSpecification": map[string]any{"AttributeName": t.TTLAttribute, "Enabled": true}}
	if err := dynamodb.Call(ctx, endpoint, api+"UpdateTimeToLive", ttl, &struct{}{}); err != nil {
		return fmt.Errorf("table %s: time to live: %w", t.Name, err)
	}
	return nil
}

// StreamARN returns the ARN of the table's stream, empty when it has none.
func StreamARN(ctx context.Context, endpoint, table string) (string, error) {
	var out struct {
		Table struct{ LatestStreamArn string }
	}
	err := dynamodb.Call(ctx, endpoint, api+"DescribeTable", map[string]any{"TableName": table}, &out)
	return out.Table.LatestStreamArn, err
}
