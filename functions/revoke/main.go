// Command revoke is the Lambda function that package internal/app/revoke describes.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/app/revoke"
)

func main() {
	lambda.Start(revoke.New(os.Getenv, os.Stdout))
}
