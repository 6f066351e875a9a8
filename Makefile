# The commands of README.md, "Two commands". Every target sets up .venv first when something changed.
PYTHON ?= python3
VIDEO ?=
VARIATIONS ?= 3
MINUTES ?= 60
WORLDS ?= 100000
JOBS ?= 2
OUT ?= demo-out
IMAGE_BASE ?= python:3.13-slim
WORKERS ?= 4
LEDGER := .soak/worlds.jsonl
BIN := .venv/bin
STAMP := .venv/.installed
# Compiled tests are kept, where the environment says otherwise too: else each worker compiles all of them each time.
PYTEST := -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
TESTS := PYTHONDONTWRITEBYTECODE= $(BIN)/python $(PYTEST) --durations=10
SLOW_SUITES := $(patsubst %,tests/%/,chaos e2e images sim web) # as in tests/conftest.py: no test of them is fast
FAST_FOLDERS := $(filter-out $(SLOW_SUITES) tests/support/ tests/__pycache__/,$(wildcard tests/*/))
KERNEL := runner/kernel/effects
PAGE := control/web/dist/index.html
PAGE_SOURCES := $(wildcard control/web/*.js control/web/*.json control/web/*.html control/web/*.py) $(shell find control/web/src -type f)

.PHONY: help setup demo serve test test-fast coverage images check bench soak lock format clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) $(if $(SKIP_FRONTEND),,$(PAGE)) $(if $(SKIP_KERNEL),,$(KERNEL)) ## install everything into .venv; SKIP_FRONTEND=1, SKIP_KERNEL=1 leave the page, the kernel out

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into .venv (once; about half a minute)..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(PAGE): $(PAGE_SOURCES) | $(STAMP)
	@$(BIN)/python control/web/build.py

$(KERNEL): runner/kernel/effects.c runner/kernel/build.py | $(STAMP)
	@$(BIN)/python runner/kernel/build.py || true

demo: setup ## run the main job for real on this machine: VIDEO="a.mp4 b.mp4" VARIATIONS=3 OUT=demo-out
	@$(BIN)/refresher demo $(VIDEO) -n $(VARIATIONS) -o $(OUT)

serve: setup ## keep the embedded stack running; prints its URL and password
	@$(BIN)/refresher serve --local

test: setup ## run the whole test suite with WORKERS=4 in parallel
	@$(TESTS)

test-fast: setup ## every test that needs no S3 server, FFmpeg, PostgreSQL, browser or stack, in under a minute
	@$(TESTS) -m fast -n 3 $(FAST_FOLDERS) $(wildcard tests/test_*.py)

coverage: setup ## print the share of each package that test-fast runs
	@$(BIN)/coverage erase
	@$(BIN)/coverage run $(PYTEST) -m fast
	@$(BIN)/python -m tests.coverage_table

soak: setup ## the long tests: every deliberate fault, every chaos case, 2,000 damaged videos, 60 kinds of files, the next of 2,000 kills and 20 lost hosts, the next of WORLDS=100000 for MINUTES=60
	@$(BIN)/python -m tests.sim --mutants
	@SOAK_FULL=1 $(BIN)/python -m pytest -q tests/e2e/sources tests/control/downloads/test_large_zip.py -k "cut_off_three_times or large_form or large_zip"
	@SIM_FULL=1 CHAOS_FULL=1 HOSTILE_FULL=1 $(BIN)/python -m pytest -q tests/sim/test_exhaustive.py tests/chaos \
		tests/runner/test_hostile.py tests/runner/test_mutations.py
	@SOAK_FULL=1 $(BIN)/python -m pytest -q tests/runner/test_kernel.py tests/runner/test_packets.py \
		tests/control/routes/test_openapi.py
	@SOAK_FULL=1 $(BIN)/python -m pytest -q tests/e2e/test_kinds.py tests/runner/test_both_sides.py
	@BUDGET_WORLDS=500 $(BIN)/python -m pytest -q tests/sim/test_budget.py
	@$(BIN)/python -m tests.chaos kills --ledger .soak/kills.jsonl --minutes $(MINUTES)
	@$(BIN)/python -m tests.chaos restores --ledger .soak/restores.jsonl --minutes $(MINUTES)
	@$(BIN)/python -m tests.sim --worlds $(WORLDS) --ledger $(LEDGER) --jobs $(JOBS) --minutes $(MINUTES)

images: setup ## build both images with buildah and test them: IMAGE_BASE=python:3.13-slim
	@IMAGE_BASE=$(IMAGE_BASE) $(BIN)/python -m pytest -q -s tests/images

check: setup ## format, lint, types, import rules, tests: what CI runs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python control/web/build.py check
	@$(TESTS)

bench: setup ## every benchmark, one line each
	@$(BIN)/python -m bench

format: setup ## format and sort imports
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	@$(BIN)/python control/web/build.py format

COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate -q

lock: setup ## write the locks again from pyproject.toml (needs uv on the PATH)
	@$(COMPILE) --all-extras -o requirements.lock
	@$(COMPILE) --extra runner -c requirements.lock -o requirements.runner.lock
	@$(COMPILE) --extra control -c requirements.lock -o requirements.control.lock
	@$(COMPILE) --extra build -c requirements.lock -o requirements.build.lock
	@$(COMPILE) --extra kernel -c requirements.lock -o requirements.kernel.lock

clean: ## remove what setup, demo and serve made
	@rm -rf .venv .coverage .refresher demo-out *.egg-info control/web/dist control/web/node_modules
