package main

import (
	"strings"
	"testing"
)

func TestSettingsComeFromTheEnvironment(t *testing.T) {
	env := map[string]string{"PORT": "9000", "WORLD_PORT": "9001", "LOCAL_DIR": "/data"}
	cfg, err := config(func(k string) string { return env[k] })
	if err != nil || cfg.Port != 9000 || cfg.WorldPort != 9001 || cfg.DynamoDBPort != 8082 || cfg.OrigoPort != 8083 ||
		cfg.Dir != "/data" {
		t.Errorf("got %+v %v", cfg, err)
	}
	env = map[string]string{"PORT": "http", "DYNAMODB_PORT": "70000"}
	_, err = config(func(k string) string { return env[k] })
	if err == nil || !strings.Contains(err.Error(), "PORT must") ||
		!strings.Contains(err.Error(), "DYNAMODB_PORT must") {
		t.Errorf("got %v", err)
	}
}
