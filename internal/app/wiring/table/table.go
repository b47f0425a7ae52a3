// Package table connects functions that read or write the table to it. Which items there are and what they mean is for
// the store.
package table

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/mobilecred/mobilecred/internal/app/wiring"
	"github.com/mobilecred/mobilecred/internal/awsconf"
	"github.com/mobilecred/mobilecred/internal/store/dynamo"
)

// Connect returns the store in the table that TABLE_NAME names.
func Connect(b *wiring.Base) *dynamo.Store {
	return dynamo.New(dynamodb.NewFromConfig(b.AWS(awsconf.DynamoDB)), b.Required("TABLE_NAME"))
}
