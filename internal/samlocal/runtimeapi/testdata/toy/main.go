// Command toy is the function that tests of the local run invoke.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	fmt.Println("toy is up")
	lambda.Start(func(ctx context.Context, in map[string]any) (any, error) {
		switch in["do"] {
		case "fail":
			return nil, errors.New("as asked")
		case "exit":
			os.Exit(3)
		case "hang":
			select {}
		case "deadline":
			d, _ := ctx.Deadline()
			return map[string]any{"left": time.Until(d).Seconds()}, nil
		case "big":
			return string(make([]byte, 7<<20)), nil
		case "pid":
			return map[string]int{"pid": os.Getpid()}, nil
		case "meet": // returns once two invocations overlap, or as many as all says
			all, given := in["all"].(float64)
			if !given {
				all = 2
			}
			return meet(in["at"].(string), int(all))
		case "env":
			return map[string]string{"value": os.Getenv(in["name"].(string))}, nil
		}
		out, err := json.Marshal(in)
		return json.RawMessage(out), err
	})
}

// meet creates a file of its own in dir and waits until there are as many as wanted.
func meet(dir string, all int) (any, error) {
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for {
		files, err := os.ReadDir(dir)
		if err != nil || len(files) >= all {
			return map[string]int{"met": len(files), "pid": os.Getpid()}, err
		}
		time.Sleep(time.Millisecond)
	}
}
