// Command webhook is the Lambda function that package internal/app/webhook describes.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/app/webhook"
)

func main() {
	lambda.Start(webhook.New(os.Getenv, os.Stdout))
}
