// Command assign is the Lambda function that package internal/app/assign describes.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/app/assign"
)

func main() {
	lambda.Start(assign.New(os.Getenv, os.Stdout))
}
