# Keelhost: make run | make test | make build | make bench. `make` alone lists the targets.
#
# Debian packages that are missing are installed with apt-get, as root or through sudo. Targets that
# need root for anything else say so below. Everything is written below target/ and to the images/
# folders of the examples and tests.

SHELL := /bin/bash
.DEFAULT_GOAL := help

TRIPLE  := x86_64-unknown-linux-gnu
OUT     := $(or $(CARGO_TARGET_DIR),target)
KIT     := target/release/keel-kit
KEEL    := target/release/keel
KERNEL  := target/kernel
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# The Debian packages that each step needs.
BUILD_PACKAGES := gcc binutils xz-utils
RUN_PACKAGES   := qemu-system-x86 e2fsprogs
TEST_PACKAGES  := erofs-utils busybox-static dnsmasq-base nftables iproute2 curl openssl python3-venv
FUZZ_PACKAGES  := g++
OCI_PACKAGES   := curl libc6-dev python3 util-linux
BENCH_PACKAGES := e2fsprogs erofs-utils binutils
# The kernel package is unpacked, not installed. The metapackage depends on the newest 6.12 kernel.
KERNEL_META    := linux-image-6.12-cloud-amd64

.PHONY: help run stack recording test test-host test-simulate simulate test-fuzz test-qemu test-oci test-full fuzz lint build images clean
.PHONY: bench bench-host bench-engine bench-engine-native bench-engine-calls bench-engine-programs
.PHONY: packages-build packages-run packages-test packages-fuzz packages-bench packages-calls packages-oci schemathesis

help:
	@echo 'Run and build:'
	@echo '  make run        build everything, boot examples/hello in QEMU, console on this terminal'
	@echo '                  (API=7444 if port 7443 is in use)'
	@echo '  make stack      the same with examples/stack: nginx, redis, PostgreSQL, a small program'
	@echo '  make build      build the keel command and its kit: $(KEEL)'
	@echo '  make images     build the container images of the examples and the tests'
	@echo '  make recording  record a session with examples/hello, draw it as docs/recording.svg'
	@echo '  make clean      remove build output and container images'
	@echo
	@echo 'Test:'
	@echo '  make test       everything that CI runs: lint, host tests, fuzz corpus, QEMU tests'
	@echo '  make lint       rustfmt and clippy'
	@echo '  make test-host  unit and integration tests on this machine; some need root'
	@echo '  make test-fuzz  run the fuzzers on their committed corpus'
	@echo "  make test-qemu  tests that boot hosts in QEMU (TESTS='stack network' for some of them)"
	@echo '  make test-oci   run public OCI runtime test suites against keel-oci; downloads them, needs root'
	@echo '  make test-full  make test and make test-oci'
	@echo "  make fuzz       fuzz for SECONDS=30 per target (TARGETS='dhcp layer' for some of them)"
	@echo
	@echo 'Measure (prints tables, writes JSON files):'
	@echo '  make bench      both of the following'
	@echo '  make bench-host     boot time, memory, crash recovery, remote control'
	@echo '  make bench-engine   container start in a VM against crun, runc, podman and docker'
	@echo '  make bench-engine-native  the same on this machine, crun and runc only; needs root'

# --- Debian packages -------------------------------------------------------------------------------

# $(call install,PACKAGES): installs the packages that are missing.
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
	 [ -n "$$package" ] || { echo "package $(KERNEL_META) not found by apt"; exit 1; }; \
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

# The local port that is forwarded to the host's API: keel --host 127.0.0.1:7443 ps
API := 7443

run: build packages-run
	@examples/make-images hello
	@$(KEEL) run examples/hello --api $(API)

stack: build packages-run
	@examples/make-images stack
	@$(KEEL) run examples/stack --memory 1G --data target/stack.img

# Boots examples/hello, records what it prints in docs/recording.txt, and draws docs/recording.svg.
recording: build packages-run
	@examples/make-images hello
	@docs/make-recording

# --- Testing ---------------------------------------------------------------------------------------

test: lint test-host test-simulate test-fuzz test-qemu

lint:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Schemathesis, from PyPI, tests the API against its OpenAPI description. It runs on Debian's Python,
# because python3-venv belongs to that one.
SCHEMATHESIS := target/schemathesis

schemathesis: $(SCHEMATHESIS)/.installed

$(SCHEMATHESIS)/.installed: api/tests/schemathesis/requirements.txt | packages-test
	@echo "installing schemathesis"
	@rm -rf $(SCHEMATHESIS) && /usr/bin/python3 -m venv $(SCHEMATHESIS)
	@$(SCHEMATHESIS)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

# Tests of namespaces, cgroups and network links need root and fail with a message without it.
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

# Runs the fuzzers on their committed corpus only; building them alone takes minutes.
test-fuzz: packages-build packages-fuzz
	fuzz/run 0

# For example: make fuzz SECONDS=600 TARGETS='dhcp layer'
SECONDS := 30
TARGETS :=
fuzz: packages-build packages-fuzz
	fuzz/run $(SECONDS) $(TARGETS)

# Runs two test programs at a time. TESTS='stack network' selects some of them.
TESTS :=
test-qemu: build packages-run packages-test images
	@qemu-tests/run $(TESTS)

# Downloads are verified, built and run below target/oci-suites.
test-oci: packages-build packages-oci
	cargo build --locked --profile try -p oci-runtime --bin keel-oci
	$(SUDO) KEEL_OCI=$(abspath $(OUT))/$(TRIPLE)/try/keel-oci oci-runtime/suites/run

test-full: test test-oci

bench: bench-host bench-engine

bench-host: build packages-run
	@examples/make-images tests
	cargo run --locked -p system-bench --bin bench_boot
	cargo run --locked -p system-bench --bin bench_api

# Compares the container engine with a minimal program that makes the same system calls (the floor),
# and with crun, runc, podman and docker from Debian's packages. Our programs are built with the
# profile of the boot binary.
ENGINE_BENCH := target/bench-engine

bench-engine-programs: packages-build packages-bench $(KERNEL)/.unpacked
	cargo build --locked --profile os -p engine-bench
	@mkdir -p $(ENGINE_BENCH)

bench-engine: bench-engine-programs packages-run
	@bench/make-disk $(OUT)/$(TRIPLE)/os $(KERNEL) $(ENGINE_BENCH)/tree $(ENGINE_BENCH)/disk.img
	@$(OUT)/$(TRIPLE)/os/bench_engine vm $(ENGINE_BENCH)/disk.img $(KERNEL)

# The same without a VM. Measures only runtimes that need no daemon. Needs root.
bench-engine-native: bench-engine-programs
	@bench/make-disk $(OUT)/$(TRIPLE)/os $(KERNEL) $(ENGINE_BENCH)/tree
	@$(SUDO) $(OUT)/$(TRIPLE)/os/bench_engine native $(ENGINE_BENCH)/tree

# Checks that the floor program makes the same system calls as the engine.
bench-engine-calls: bench-engine-programs packages-calls
	@bench/make-disk $(OUT)/$(TRIPLE)/os $(KERNEL) $(ENGINE_BENCH)/tree
	@$(SUDO) bench/compare-calls $(OUT)/$(TRIPLE)/os/bench_engine $(ENGINE_BENCH)/tree

clean:
	cargo clean
	rm -rf examples/*/images qemu-tests/hosts/*/images
