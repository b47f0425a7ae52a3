// Command notify is the Lambda function that package internal/app/notify describes.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/app/notify"
)

func main() {
	lambda.Start(notify.New(os.Getenv, os.Stdout))
}
