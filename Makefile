# Every target works on a fresh checkout with nothing installed but Go.

GOFUMPT     = go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = go run golang.org/x/vuln/cmd/govulncheck@v1.8.0

FUZZTIME ?= 30s

# What a release is called, and the time that its files bear; sources without version control say both.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
EPOCH   ?= $(shell git log -1 --format=%ct 2>/dev/null)

.PHONY: run test race cover bench lint fmt vuln fuzz build release release-check

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

release: ## an archive for each platform, and SHA256SUMS, in dist
	rm -rf dist
	go run ./internal/release -version "$(VERSION)" -epoch "$(EPOCH)"

# Two builds, in two folders, have the same bytes.
release-check:
	MANDRILL_TEST_ALL=1 go test -count=1 -v ./internal/release
