# Everything a developer does here starts with make; make alone lists it.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The run's data and what it builds; see internal/local.
LOCAL_DIR ?= .local
export LOCAL_DIR

VENV := .local/venv
LINTER_VERSION := v2.15.0
LINTER := .local/golangci-lint-$(LINTER_VERSION)/golangci-lint
FUNCTIONS := $(shell sed -n 's/^  \([A-Z][a-z]*Function\):$$/\1/p' template.yaml)
GOARCH ?= arm64
SOAK ?= 20
MINUTES ?= 10
FUZZ_SECONDS ?= 60
REQUESTS ?= 2000

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: ## Run the whole thing on this machine; Ctrl-C stops it, the data stays
	@.ci/need git go npm java
	@mkdir -p "$(LOCAL_DIR)/bin"
	@go build -o "$(LOCAL_DIR)/bin/mobilecred-local" ./internal/local/cmd/mobilecred-local
	@exec "$(LOCAL_DIR)/bin/mobilecred-local"

.PHONY: test
test: ## Vet and test everything, race detector on
	@.ci/need git go cc npm java
	go vet ./...
	go test -race ./...

.PHONY: verify
verify: $(VENV)/.installed ## Check template.yaml as AWS would read it, and the API against its document (needs Python)
	$(VENV)/bin/cfn-lint template.yaml
	go vet -tags verify ./internal/deploy
	go test -tags verify ./internal/deploy -run Expanded -count=1 -v
	@$(MAKE) contract

.PHONY: contract
contract: $(VENV)/.installed ## Make REQUESTS (2000) requests from the API's document, and check the answers
	@.ci/need go npm java
	go run ./internal/local/cmd/contract -requests $(REQUESTS) -schemathesis $(VENV)/bin/schemathesis \
		-seed $(or $(SEED),7)

.PHONY: fuzz
fuzz: ## Fuzz each parser for FUZZ_SECONDS (60)
	@.ci/need go
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z]+' internal | sed 's|/[^/]*:func | |' | sort | \
	while read -r dir target; do \
		echo "$$dir $$target"; \
		go test "./$$dir" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_SECONDS)s || exit 1; \
	done

.PHONY: lint
lint: $(LINTER) $(VENV)/.installed ## Check Go code, go.mod, all text and the shell scripts
	go mod tidy -diff
	$(LINTER) run
	$(VENV)/bin/python .ci/text
	$(VENV)/bin/shellcheck .ci/need .ci/run

.PHONY: fmt
fmt: $(LINTER) ## Format the Go code
	$(LINTER) fmt

.PHONY: soak
soak: ## Random traffic for MINUTES (10) while all is killed; 100,000 requests; fuzzing; 50 processes; a million steps
	@.ci/need go npm java
	go run ./internal/local/cmd/soak -minutes $(MINUTES) $(if $(SEED),-seed $(SEED))
	go test ./internal/store/dynamo -run TestManyProcesses -count=1 -v -timeout=2h -race.rounds=200 \
		$(if $(SEED),-race.seed=$(SEED))
	go test ./internal/issuance -run TestEveryLifeEndsWell -count=1 -v -rapid.checks=2400 -rapid.seed=$(or $(SEED),0)
	@$(MAKE) fuzz
	@$(MAKE) contract REQUESTS=100000 SEED=$(or $(SEED),0)

.PHONY: repeat
repeat: ## Run every test SOAK times (20) in random order, for what happens rarely; new lives, every breakage
	@.ci/need git go cc npm java
	go test ./internal/issuance -run TestEveryLifeEndsWell -rapid.checks=5000 -rapid.seed=0 -rapid.nofailfile=false
	go run ./internal/mutate
	go test -race -count=$(SOAK) -shuffle=on -timeout=4h ./...

.PHONY: simulate
simulate: ## Live the lives of the simulation (LIVES=n SEED=n; 0 draws new ones), play the matrix of faults, and count
	@.ci/need go
	go test ./internal/issuance -run 'TestEveryLifeEndsWell|TestWhateverBecomes|TestEveryOrder' -count=1 -v \
		$(if $(LIVES),-rapid.checks=$(LIVES)) $(if $(SEED),-rapid.seed=$(SEED))

.PHONY: mutate
mutate: ## Break safety code on purpose, one breakage at a time, and say which check catches it
	@.ci/need git go npm java
	go run ./internal/mutate $(if $(ONLY),-only $(ONLY))

.PHONY: startup
startup: ## Measure every function: size, and process start to first request for work
	@.ci/need go
	@go run ./internal/deploy/startup

.PHONY: build
build: $(FUNCTIONS:%=dist/%) ## Build every function for GOARCH (arm64) into dist/

dist/%: .FORCE
	@mkdir -p $@
	@$(MAKE) build-$* ARTIFACTS_DIR=$@

# sam build calls this for each function with ARTIFACTS_DIR set: build-AssignFunction builds functions/assign.
build-%Function: .FORCE
	CGO_ENABLED=0 GOOS=linux GOARCH=$(GOARCH) go build -trimpath -buildvcs=false -ldflags '-s -w' -tags lambda.norpc \
		-o "$(ARTIFACTS_DIR)/bootstrap" ./functions/$(shell echo '$*' | tr '[:upper:]' '[:lower:]')

.PHONY: .FORCE
.FORCE:

.PHONY: clean
clean: ## Remove what was built and fetched, and what local runs have stored
	rm -rf dist .aws-sam .local internal/samlocal/dynamodb/node_modules

# Built here, so that every machine has the same one: some minutes, once.
$(LINTER):
	@.ci/need git go
	GOBIN="$(CURDIR)/$(@D)" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER_VERSION)

$(VENV)/.installed: internal/deploy/requirements.txt
	@.ci/need git go python3
	python3 -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
