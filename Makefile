# Two targets for everybody: `make image` builds applbuild and the disk of
# recipes/debian-minimal.yml; `make test` installs what the tests need and runs
# all of them, boots included.

GO          ?= go
BIN         := bin/applbuild
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What the tests ask as oracles or run, as Debian 12 names it.
TEST_PACKAGES := gcc libc6-dev git ca-certificates curl \
	apt gpgv mmdebstrap debian-archive-keyring uidmap passwd sudo procps util-linux mount \
	squashfs-tools erofs-utils e2fsprogs dosfstools mtools cryptsetup-bin \
	fdisk gdisk systemd systemd-container binutils cpio zstd xz-utils file \
	openssl osslsigncode busybox-static kmod bzip2 diffutils \
	xfsprogs btrfs-progs \
	xorriso genisoimage libarchive-tools cloud-image-utils \
	openssh-client poppler-utils zbar-tools age gnupg python3 \
	skopeo umoci podman crun docker.io containerd docker-registry

.PHONY: image build test unit integration lint install-test-packages bench fuzz soak clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/applbuild

# As root nothing else is needed. An ordinary user needs newuidmap and a range
# of subordinate ids; applbuild says so itself where they are missing.
image: build
	@if [ "$$(id -u)" != 0 ] && ! command -v newuidmap >/dev/null; then \
		echo "installing uidmap, which an ordinary user's builds need"; \
		sudo apt-get update -qq && sudo apt-get install -y -qq uidmap; fi
	$(BIN) image recipes/debian-minimal.yml --output out --force

test: install-test-packages lint unit integration

install-test-packages:
	@missing=""; for p in $(TEST_PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# Quick tests of all packages, with the race detector.
unit:
	$(GO) test -race -short -timeout 20m ./...

# All tests: real archives, oracles, boots. Packages that boot machines come last
# and one at a time, because boots are timed. What is skipped is listed, with the
# reason; CI may skip what a machine cannot have (KVM, a host program's newer
# feature or version), nothing else.
MAY_SKIP := KVM is missing|has no zstd|run as an ordinary user|kernel has no|has no DETERMINISTIC_SEED|generator for quadlets is missing|plugin compose is missing|skopeo with sigstore|is not the loopback
BOOTING  := /builder/vm$$|/cmd/applbuild$$

integration:
	@mkdir -p bin
	@{ $(GO) test -v -p 2 -timeout 60m $$($(GO) list ./... | grep -vE '$(BOOTING)') && \
	   $(GO) test -v -p 1 -timeout 60m $$($(GO) list ./... | grep -E '$(BOOTING)'); } >bin/test.log 2>&1; status=$$?; \
	grep -E '^(ok|FAIL|panic:|--- FAIL)|^ *--- FAIL' bin/test.log || true; \
	if [ $$status != 0 ]; then tail -n 200 bin/test.log; exit $$status; fi; \
	skipped=$$(grep -E -B1 '^ *--- SKIP' bin/test.log | grep -E '_test.go:[0-9]+:' | grep -vE '$(MAY_SKIP)'); \
	grep -E -B1 '^ *--- SKIP' bin/test.log || true; \
	if [ -n "$$skipped" ] && [ -n "$$CI" ]; then echo "tests were skipped that CI must run:"; echo "$$skipped"; exit 1; fi

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Each fuzz target for a minute.
fuzz:
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime 60s $$package || exit 1; done; done

# What takes longer than anybody waits: first boots and power cuts by the dozen,
# more package sets against apt, more seeds against cloud-init.
soak:
	APPLBUILD_SOAK=20 $(GO) test -v -timeout 5h -run 'FirstBoots|PowerCuts|StateCutShort|MachineOfArm64|UpdateWipes|ContainerHost' ./cmd/applbuild
	APPLBUILD_SCHEMA_CASES=20000 $(GO) test -timeout 5h ./cidata/schema
	APPLBUILD_RESOLVE_SETS=5000 APPLBUILD_RESOLVE_WORLDS=1000 $(GO) test -timeout 5h -run Apt ./rootfs/resolve

clean:
	rm -rf bin out
