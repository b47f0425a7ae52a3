// Command lookup is the Lambda function that package internal/app/lookup describes.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/app/lookup"
)

func main() {
	lambda.Start(lookup.New(os.Getenv, os.Stdout))
}
