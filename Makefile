# Everything works in a clean clone on a fresh Debian machine: "make demo" and
# "make test" install what is missing first (build/setup.sh says what).

GO      := build/go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
DATE    := $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null)

# Two packages at a time: the tests start real MariaDB servers, and two cores
# is what they are tuned for. TEST narrows it down: make race TEST=./receiver/...
# go test would look with a part of vet at every package again: lint has, with all of it.
TEST      ?= ./...
TESTFLAGS ?= -race -vet=off -p 2 -timeout 20m

# A program under the race detector waits a second at its end for goroutines that race still: our tests wait for theirs.
export GORACE ?= atexit_sleep_ms=50

.DEFAULT_GOAL := help
.PHONY: help setup build build-test packages packages-test demo test race lint fmt bench chaos man docs screenshots clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the system packages that are missing
	@build/setup.sh test

# No cgo, no paths, no build id of this machine: one static file, and the same bytes wherever it is built.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false \
	-ldflags '-s -w -buildid= -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)'

build: ## build bin/drydock
	$(BUILD) -o bin/drydock ./cmd/drydock

build-test: build ## show that bin/drydock is static and that a second build makes the same bytes
	packaging/check-static bin/drydock
	cd "$$(mktemp -d)" && trap 'rm -rf "$$PWD"' EXIT && \
	git -C "$(CURDIR)" archive HEAD | tar -x && \
	$(subst build/go,"$(CURDIR)/build/go",$(BUILD)) -o second ./cmd/drydock && cmp second "$(CURDIR)/bin/drydock" && echo "the same bytes twice"

packages: build ## build dist/*.deb and dist/*.rpm
	packaging/build $(VERSION) $(DATE)

packages-test: packages ## install, upgrade, remove and purge the packages in a bare Debian of their own (as root)
	packaging/test

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

# One at a time: make bench BENCH=receive. A quiet machine tells most; ratios within one run are what counts.
BENCH ?= receive ingest cycle fanout

bench: ## measure drydock beside what else does the work (twenty minutes; docs/performance.md); the report is bin/bench.md
	@build/setup.sh test
	@$(MAKE) --no-print-directory build
	@rm -f bin/bench.md
	@for name in $(BENCH); do \
		echo "bench $$name"; \
		$(GO) build -o bin/bench-$$name ./bench/$$name && bin/bench-$$name >> bin/bench.md || exit 1; \
	done; cat bin/bench.md

# The same seed strikes the same blows: make chaos SEED=7 STEPS=1000 FOR=90m MODE=split (or api, sql, split-sql)
SEED  ?= 1
STEPS ?= 100
MODE  ?= api
FOR   ?= 30m

chaos: ## break a running drydock (kills, stops, full and slow disks) and check every promise afterwards (docs/chaos.md)
	@build/setup.sh test
	@$(MAKE) --no-print-directory build
	@mkdir -p bin
	$(GO) build -o bin/chaos ./bench/chaos
	bin/chaos -seed $(SEED) -steps $(STEPS) -mode $(MODE) -for $(FOR) -report bin/chaos-$(MODE)-$(SEED).md

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
	rm -rf bin dist
