# Keelhost.  make run | make test | make build | make bench
#
# Whatever is missing on a Debian machine is installed by name (as root or by sudo); nothing else
# needs root. Everything that is made goes below target/ and the examples' images/ folders.

SHELL := /bin/bash
.DEFAULT_GOAL := help

TRIPLE  := x86_64-unknown-linux-gnu
OUT     := $(or $(CARGO_TARGET_DIR),target)
KIT     := target/release/keel-kit
KEEL    := target/release/keel
KERNEL  := target/kernel
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# What each step needs, as Debian packages.
BUILD_PACKAGES := gcc binutils xz-utils
RUN_PACKAGES   := qemu-system-x86 e2fsprogs
TEST_PACKAGES  := erofs-utils busybox-static dnsmasq-base nftables iproute2 curl openssl python3-venv
FUZZ_PACKAGES  := g++
OCI_PACKAGES   := curl libc6-dev python3 util-linux
BENCH_PACKAGES := e2fsprogs erofs-utils binutils
# The kernel is unpacked, never installed. The meta package names the newest 6.12.
KERNEL_META    := linux-image-6.12-cloud-amd64

.PHONY: help run stack test test-host test-simulate simulate test-fuzz test-qemu test-oci test-full fuzz lint build images clean
.PHONY: bench bench-host bench-engine bench-engine-native bench-engine-calls bench-engine-programs
.PHONY: packages-build packages-run packages-test packages-fuzz packages-bench packages-calls packages-oci schemathesis

help:
	@echo 'make run      build, boot examples/hello in QEMU, its console on this terminal'
	@echo 'make stack    the same with examples/stack (nginx, redis, PostgreSQL, a small program)'
	@echo 'make test     every test: lint, host, the inputs of the fuzzers, and QEMU'
	@echo 'make test-oci      public suites for OCI runtimes judge keel-oci; fetched from the Debian mirror'
	@echo 'make test-full     all of that'
	@echo 'make fuzz     fuzz everything that reads bytes from outside, SECONDS=30 each'
	@echo 'make build    the keel command and what it needs: $(KEEL)'
	@echo 'make bench    measure, print a table, write target/bench/*.json'
	@echo 'make bench-engine   the last part of it: our engine against crun, runc, podman, docker;'
	@echo '              bench-engine-native on this machine, without a VM, as root'

# --- Debian packages -------------------------------------------------------------------------------

# $(call install,PACKAGES): installs those that are not there.
define install
	@missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	    echo "installing" $$missing; \
	    $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

packages-build: ; $(call install,$(BUILD_PACKAGES))
packages-run:   ; $(call install,$(RUN_PACKAGES))
packages-test:  ; $(call install,$(TEST_PACKAGES))
packages-fuzz:  ; $(call install,$(FUZZ_PACKAGES))
packages-oci:   ; $(call install,$(OCI_PACKAGES))
packages-bench: ; $(call install,$(BENCH_PACKAGES))
packages-calls: ; $(call install,strace)

# --- Building --------------------------------------------------------------------------------------

$(KERNEL)/.unpacked: | packages-build
	@rm -rf $(KERNEL) && mkdir -p $(KERNEL)/deb
	@apt-cache show $(KERNEL_META) >/dev/null 2>&1 || $(SUDO) apt-get update -qq
	@package=$$(apt-cache depends $(KERNEL_META) | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1); \
	 [ -n "$$package" ] || { echo "apt knows no $(KERNEL_META)"; exit 1; }; \
	 echo "unpacking $$package"; \
	 cd $(KERNEL)/deb && { apt-get download -qq "$$package" 2>/dev/null || { $(SUDO) apt-get update -qq && apt-get download -qq "$$package"; }; } \
	 && dpkg-deb -x *.deb .. && rm -rf ../deb
	@touch $@

build: packages-build $(KERNEL)/.unpacked
	cargo build --locked --release -p cli
	cargo build --locked --profile os -p os
	@mkdir -p target/release
	@cp -u $(OUT)/$(TRIPLE)/release/keel $(KEEL).new && mv $(KEEL).new $(KEEL)
	@if [ ! -e $(KIT)/kit.json ] || [ $(OUT)/$(TRIPLE)/os/keel-os -nt $(KIT)/kit.json ] \
	    || [ $(KEEL) -nt $(KIT)/kit.json ] || [ $(KERNEL)/.unpacked -nt $(KIT)/kit.json ]; then \
	    $(KEEL) kit --kernel $(KERNEL) --program $(OUT)/$(TRIPLE)/os/keel-os --output $(KIT); \
	fi

images: packages-build
	@examples/make-images

# --- Running ---------------------------------------------------------------------------------------

# The port of this machine that leads to the host's API: keel --host 127.0.0.1:7443 ps
API := 7443

run: build packages-run
	@examples/make-images hello
	@$(KEEL) run examples/hello --api $(API)

stack: build packages-run
	@examples/make-images stack
	@$(KEEL) run examples/stack --memory 1G --data target/stack.img

# --- Testing ---------------------------------------------------------------------------------------

test: lint test-host test-simulate test-fuzz test-qemu

lint:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# A client that tries the API by its description, from PyPI. Debian's own Python, for which
# python3-venv is.
SCHEMATHESIS := target/schemathesis

schemathesis: $(SCHEMATHESIS)/.installed

$(SCHEMATHESIS)/.installed: api/tests/schemathesis/requirements.txt | packages-test
	@echo "unpacking schemathesis"
	@rm -rf $(SCHEMATHESIS) && /usr/bin/python3 -m venv $(SCHEMATHESIS)
	@$(SCHEMATHESIS)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

# The tests of namespaces, cgroups and links need root; they say so if they do not have it.
test-host: packages-build packages-test schemathesis
	cargo test --locked --workspace --exclude qemu-tests

# PID 1 and the supervisor on a simulated kernel (see simulator/src/lib.rs).
#   make simulate SEEDS=1..2000      these schedules
#   make simulate SEED=17 TRACE=1    one of them, with everything that happens in it
SEEDS := 1..2000
SEED :=
TRACE :=
SIMULATE := cargo run --locked --quiet -p simulator --bin simulate --
simulate: packages-build
	@$(SIMULATE) $(if $(SEED),$(SEED)..$(SEED),$(SEEDS)) $(if $(TRACE),--trace)

# Bounded by the number of schedules: less than a minute.
test-simulate: packages-build
	@$(SIMULATE) 1..20000

# The fuzzers with their committed inputs alone: building them takes minutes as it is.
test-fuzz: packages-build packages-fuzz
	fuzz/run 0

# make fuzz SECONDS=600 TARGETS='dhcp layer'
SECONDS := 30
TARGETS :=
fuzz: packages-build packages-fuzz
	fuzz/run $(SECONDS) $(TARGETS)

# Two guests at a time. TESTS='stack network' for some of them.
TESTS :=
test-qemu: build packages-run packages-test images
	@qemu-tests/run $(TESTS)

# What is fetched is checked, built and run below target/oci-suites.
test-oci: packages-build packages-oci
	cargo build --locked --profile try -p oci-runtime --bin keel-oci
	$(SUDO) KEEL_OCI=$(abspath $(OUT))/$(TRIPLE)/try/keel-oci oci-runtime/suites/run

test-full: test test-oci

bench: bench-host bench-engine

bench-host: build packages-run
	@examples/make-images tests
	cargo run --locked -p qemu-tests --bin bench
	cargo run --locked -p qemu-tests --bin bench_api

# Our engine against a floor program, crun, runc, podman and docker. The programs are built as the
# booting binary is; the others come from Debian's packages.
ENGINE_BENCH := target/bench-engine

bench-engine-programs: packages-build packages-bench $(KERNEL)/.unpacked
	cargo build --locked --profile os -p engine-bench -p guest-tools
	@mkdir -p $(ENGINE_BENCH)

bench-engine: bench-engine-programs packages-run
	@bench/make-disk $(OUT)/$(TRIPLE)/os $(KERNEL) $(ENGINE_BENCH)/tree $(ENGINE_BENCH)/disk.img
	@$(OUT)/$(TRIPLE)/os/bench_engine vm $(ENGINE_BENCH)/disk.img $(KERNEL)

# The same without the VM, where only those are measured that need no daemon. As root.
bench-engine-native: bench-engine-programs
	@bench/make-disk $(OUT)/$(TRIPLE)/os $(KERNEL) $(ENGINE_BENCH)/tree
	@$(SUDO) $(OUT)/$(TRIPLE)/os/bench_engine native $(ENGINE_BENCH)/tree

# Whether the floor makes the engine's system calls and no others.
bench-engine-calls: bench-engine-programs packages-calls
	@bench/make-disk $(OUT)/$(TRIPLE)/os $(KERNEL) $(ENGINE_BENCH)/tree
	@$(SUDO) bench/compare-calls $(OUT)/$(TRIPLE)/os/bench_engine $(ENGINE_BENCH)/tree

clean:
	cargo clean
	rm -rf examples/*/images qemu-tests/hosts/*/images
