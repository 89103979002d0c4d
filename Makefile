# Front door: two commands on a bare Debian 12 or 13 (git and make installed):
#     make demo      build, fetch real models, run and serve them, show figures measured here
#     make check     build and run every test
# Underneath is plain CMake: `cmake --preset release && cmake --build --preset release`.
.DEFAULT_GOAL := help
PREFIX ?= /usr/local
BENCH_ARGS ?=
FUZZ_SECONDS ?= 30

.PHONY: help demo check build bench fuzz docs install clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

build: ## build/release/bin/polestar and build/release/lib/libpolestar.so
	@tools/bootstrap --build
	@tools/build release

demo: ## real models on this machine, in five minutes
	@tools/demo

check: ## build and run every test; the last line counts them
	@tools/bootstrap
	@tools/check

bench: build ## polestar beside ONNX Runtime on this CPU (BENCH_ARGS="--help")
	@tools/bootstrap
	@tools/python --bench bench/compare.py $(BENCH_ARGS)

fuzz: ## fuzz every parser for FUZZ_SECONDS each (clang)
	@tools/bootstrap --build
	@tools/fuzz $(FUZZ_SECONDS)

docs: build ## write what is printed from tables: docs/operators.md, docs/cli.md
	@tools/docs

install: build ## into $(DESTDIR)$(PREFIX)
	@DESTDIR="$(DESTDIR)" cmake --install build/release --prefix "$(PREFIX)" >/dev/null
	@echo "installed into $(DESTDIR)$(PREFIX)"

clean: ## remove build/; downloads stay in ~/.cache/polestar-build
	rm -rf build
