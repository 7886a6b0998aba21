# Everything works in a clean clone on a fresh Debian machine: "make demo" and
# "make test" install what is missing first (build/setup.sh says what).

GO      := build/go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Two packages at a time: the tests start real MariaDB servers, and two cores
# is what they are tuned for. TEST narrows it down: make race TEST=./receiver/...
TEST      ?= ./...
TESTFLAGS ?= -race -p 2 -timeout 20m

.DEFAULT_GOAL := help
.PHONY: help setup build demo test race lint fmt bench man docs screenshots clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the system packages that are missing
	@build/setup.sh test

build: ## build bin/drydock
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/drydock ./cmd/drydock

demo: ## run drydock against real MariaDB servers it starts itself (KEEP=1 leaves them running)
	@build/setup.sh demo
	@$(MAKE) --no-print-directory build
	bin/drydock demo

test: ## all checks and all tests, as CI runs them
	@build/setup.sh test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory race

race: ## the tests alone, under the race detector
	$(GO) test $(TESTFLAGS) $(TEST)

# A shell file is one whose first line says so, whatever its name.
SHELL_FILES = find . -path ./.git -prune -o -path ./bin -prune -o -type f -exec \
	awk 'FNR == 1 { if ($$0 ~ /^\#!.*sh$$/) print FILENAME; nextfile }' {} +

lint: ## gofmt, go vet, staticcheck, shellcheck
	@bad=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .); \
	if [ -n "$$bad" ]; then echo "not formatted (run: make fmt):"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	shellcheck $$($(SHELL_FILES))

bench: ## measure what checking a real physical stream costs its receiver
	$(GO) test ./receiver -run '^$$' -bench FormatCheck -benchtime 15x

fmt: ## format the Go code
	"$$($(GO) env GOROOT)/bin/gofmt" -w .

man: ## write the man pages to bin/man
	$(GO) run -ldflags '-X main.version=$(VERSION)' ./cmd/drydock man bin/man

docs: ## generate the documents that come from the code
	$(GO) generate ./...

screenshots: ## pictures of every page, light, dark and on a phone, into docs/screenshots
	@build/setup.sh test
	$(GO) test ./gateway -count=1 -run TestEveryPageCanBeSeenAndUsed -screenshots $(CURDIR)/docs/screenshots

clean: ## remove what was built
	rm -rf bin
