// Command cleanup is the Lambda function that package internal/app/cleanup describes.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/app/cleanup"
)

func main() {
	lambda.Start(cleanup.New(os.Getenv, os.Stdout))
}
