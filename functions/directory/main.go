// Command directory is the Lambda function that package internal/app/directory describes.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mobilecred/mobilecred/internal/app/directory"
)

func main() {
	lambda.Start(directory.New(os.Getenv, os.Stdout))
}
