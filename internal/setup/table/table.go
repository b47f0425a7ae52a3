// Package table wires the table for functions that read or write it.
package table

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/setup"
	"github.com/mobilecred/mobilecred/internal/store/dynamo"
)

// Store returns the table.
func Store(b *setup.Base) *dynamo.Store {
	return dynamo.New(dynamodb.NewFromConfig(b.AWS(awsconf.DynamoDB)), b.Env("TABLE_NAME"))
}
