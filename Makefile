# Every target works on a fresh checkout with nothing installed but Go.

GOFUMPT     = go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = go run golang.org/x/vuln/cmd/govulncheck@v1.8.0

FUZZTIME ?= 30s

# Version 2, or else 1.29, as Debian has it.
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

# What a release is called, and the time that its files bear; sources without version control say both.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
EPOCH   ?= $(shell git log -1 --format=%ct 2>/dev/null)

.PHONY: run test race cover bench lint fmt vuln fuzz build release release-check images up down man

run: ## the demo
	go run ./cmd/mandrill demo

test:
	go test ./...

# Tests of whole processes do not share memory with the test, so the race detector sees nothing more in them.
race:
	go test -race -skip '^TestProcess' ./...

cover:
	go test -coverprofile=cover.out -coverpkg=./... ./...
	go tool cover -html=cover.out -o cover.html
	go tool cover -func=cover.out | tail -1

bench:
	go test -run '^$$' -bench . -benchmem ./...

lint:
	@unformatted=$$($(GOFUMPT) -l .) && test -z "$$unformatted" || { echo "not formatted (make fmt): $$unformatted"; exit 1; }
	go vet ./...
	$(STATICCHECK) ./...

fmt:
	$(GOFUMPT) -w .

vuln:
	$(GOVULNCHECK) ./...

# Every target in turn, each for FUZZTIME.
fuzz:
	@for file in $$(grep -rl '^func Fuzz' --include='*_test.go' .); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x ./$$(dirname $$file) || exit 1; \
		done; \
	done

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/mandrill ./cmd/mandrill

man:
	go run ./cmd/mandrill man bin/man/man1

# Images of Mandrill and of the NATS server, from nothing but the modules.
images:
	mkdir -p bin/image/data
	CGO_ENABLED=0 GOOS=linux go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o bin/image/mandrill ./cmd/mandrill
	CGO_ENABLED=0 GOOS=linux go build -trimpath -buildvcs=false -ldflags "-s -w" -o bin/image/nats-server github.com/nats-io/nats-server/v2
	docker build -q -t mandrill -f deploy/Dockerfile bin/image
	docker build -q -t mandrill-nats -f deploy/nats.Dockerfile bin/image

up: images ## a cluster on this machine
	$(COMPOSE) -f deploy/compose.yaml up -d

down: ## with all that it has stored
	$(COMPOSE) -f deploy/compose.yaml down --volumes

release: ## an archive for each platform, and SHA256SUMS, in dist
	rm -rf dist
	go run ./internal/release -version "$(VERSION)" -epoch "$(EPOCH)"

# Two builds, in two folders, have the same bytes.
release-check:
	MANDRILL_TEST_ALL=1 go test -count=1 -v ./internal/release
