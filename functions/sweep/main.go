// Command sweep is the Lambda function that package internal/app/sweep describes.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/app/sweep"
)

func main() {
	lambda.Start(sweep.New(os.Getenv, os.Stdout))
}
