// Command mobilecred-local runs the whole of mobilecred on this machine; see
// package local. It takes its settings from the environment, as make run hands
// them on.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/mobilecred/mobilecred/internal/local"
)

func main() {
	log.SetFlags(0)
	cfg, err := config(os.Getenv)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
		err = local.Run(ctx, cfg, func(at local.Addresses) { fmt.Print(local.Welcome(at, cfg.Dir), "\nready\n") })
	}
	if err != nil {
		log.Fatal(err)
	}
}

func config(getenv func(string) string) (local.Config, error) {
	var problems []error
	accounts, err := local.ParseAccounts(getenv("ACCOUNTS"))
	if err != nil {
		problems = append(problems, fmt.Errorf("ACCOUNTS: %w", err))
	}
	cfg := local.Config{Root: ".", Dir: getenv("LOCAL_DIR"), DynamoDBEndpoint: getenv("DYNAMODB_ENDPOINT"),
		Accounts: accounts, Parameters: local.Parameters(accounts...), Seed: local.Seed, Out: os.Stderr}
	if cfg.Dir == "" {
		cfg.Dir = ".local"
	}
	for _, p := range []struct {
		variable  string
		otherwise int
		to        *int
	}{
		{"PORT", 8080, &cfg.Port}, {"WORLD_PORT", 8081, &cfg.WorldPort},
		{"DYNAMODB_PORT", 8082, &cfg.DynamoDBPort}, {"ORIGO_PORT", 8083, &cfg.OrigoPort},
	} {
		*p.to = p.otherwise
		text := getenv(p.variable)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			problems = append(problems, fmt.Errorf("%s must be a port number, not %q", p.variable, text))
		}
		*p.to = int(n)
	}
	return cfg, errors.Join(problems...)
}
