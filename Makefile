# Everything a contributor runs. "make" alone explains.

GO            ?= go
FUZZTIME      ?= 20s
BENCH         ?= .
BENCHTIME     ?= 1s
COUNT         ?= 1
NIGHTLY_COUNT ?= 10
STRESS        ?= 5m
PKG           ?= ./...
RABBITMQ      := scripts/servers start rabbitmq

TOOL := $(GO) tool -modfile=tools/go.mod

.DEFAULT_GOAL := help
.PHONY: help
help: ## show this help
	@echo 'usage: make TARGET [VARIABLE=value ...]'
	@echo
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo 'variables: PKG=./... FUZZTIME=20s BENCH=. BENCHTIME=1s COUNT=1 NIGHTLY_COUNT=10 STRESS=5m'
	@echo 'REQUIRE_SERVERS=1 makes "test" fail when a server that must start does not'

.PHONY: test
test: ## start the real servers, lint, run all tests with the race detector
	@scripts/test

.PHONY: test-short
test-short: ## run the quick tests, without servers
	$(GO) test -short $(PKG)

.PHONY: race
race: ## run the tests with the race detector, without servers
	$(GO) test -race -count=$(COUNT) $(PKG)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, go mod tidy: all must have nothing to say
	@bad=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
		if [ -n "$$bad" ]; then echo "gofmt: not formatted:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) mod tidy -diff
	cd tools && $(GO) vet ./... && $(GO) test ./... && $(GO) mod tidy -diff

.PHONY: fmt
fmt: ## format with gofumpt, which gofmt accepts
	$(TOOL) gofumpt -w $$(git ls-files --cached --others --exclude-standard '*.go')

.PHONY: deadcode
deadcode: ## functions that no program and no test reaches
	$(TOOL) deadcode -test ./...

.PHONY: bench
bench: ## measure in ROUNDS (5) rounds, and print each figure beside its limit and its peers
	@scripts/bench

.PHONY: bench-quick
bench-quick: ## run benchmarks as they are (BENCH=regexp BENCHTIME=1s COUNT=1)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(COUNT) $(PKG)

.PHONY: bench-compare
bench-compare: ## benchmarks of this tree against commit BASE (default HEAD)
	@scripts/bench-compare

.PHONY: fuzz
fuzz: ## run every fuzz test for FUZZTIME
	@scripts/fuzz $(FUZZTIME)

.PHONY: conformance
conformance: ## the channel suite on memory, both rigs, and on RabbitMQ if it can be had
	$(GO) run ./cmd/dashi conformance memory:// --rig one
	$(GO) run ./cmd/dashi conformance memory:// --rig two
	@if url=$$($(RABBITMQ) | tail -n 1) && [ -n "$$url" ]; then \
		set -x; $(GO) run ./cmd/dashi conformance "$$url"; fi

.PHONY: proof
proof: ## run every proof and print what each has tried (docs/proof.md)
	@scripts/proof

.PHONY: stress
stress: ## closing under load, faults and contention with the race detector, for STRESS (5m)
	@STRESS=$(STRESS) scripts/stress

.PHONY: servers
servers: ## start all real servers and print their URLs
	@for name in $$(scripts/servers names); do \
		url=$$(scripts/servers start $$name 2>/dev/null | tail -n 1); \
		echo "$$name $${url:--}"; done | expand -t 18

.PHONY: servers-stop
servers-stop: ## stop the servers that were started
	@for name in $$(scripts/servers names); do \
		if scripts/servers status $$name >/dev/null 2>&1; then scripts/servers stop $$name; fi; done

.PHONY: nightly
nightly: ## as test, many times over, and every fuzz test for minutes
	NIGHTLY=1 COUNT=$(NIGHTLY_COUNT) TIMEOUT=90m scripts/test
	@scripts/fuzz 5m
	cd interop && $(GO) vet ./... && $(GO) test ./...
