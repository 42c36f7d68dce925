# `make demo` and `make test` do all the set-up on a bare machine with git, make and Python >= 3.11.
PYTHON ?= python3
QURATE_DATA ?= ../shared/data
WORKERS ?= 2
export QURATE_DATA
# bytecode of the package and the tests is kept: without it each of some hundred processes would compile them anew
export PYTHONDONTWRITEBYTECODE :=
export OMP_NUM_THREADS ?= 1

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
INPUTS := pyproject.toml constraints.txt Makefile

.PHONY: setup demo test studies check bench mutants services results proof clean
.DELETE_ON_ERROR:

setup: $(VENV)/.core ## install qurate into .venv

demo: $(VENV)/.core ## simulate a shop, learn from its log, compare with the baselines
	$(BIN)/qurate demo

test: $(VENV)/.test ## all tests, on reduced slices
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

studies: $(VENV)/.test ## long trainings to exact values and optima, about half an hour to an hour
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m study

check: $(VENV)/.test ## style, types, layers and the quick tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not study"

mutants: $(VENV)/.test ## single-line faults that the tests must notice (benchmarks/mutations)
	$(BIN)/python benchmarks/mutants.py -j $(WORKERS)

bench: $(VENV)/.core ## speed and memory, into docs/benchmark.md
	$(BIN)/qurate bench --write docs/benchmark.md

proof: $(VENV)/.core ## the claims in full, into docs/proof.*; resumable, kept in proof-cache/
	$(BIN)/python benchmarks/proof.py

results: $(VENV)/.core ## tables of the real logs in docs/results.md; resumable, kept in results-cache/
	$(BIN)/python benchmarks/results.py --data $(QURATE_DATA)

services: ## system packages that the tests need; does nothing where they are present
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { set -e; \
	  if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi; \
	  $$sudo apt-get update; $$sudo apt-get install -y --no-install-recommends python3-venv; }

clean: ## remove everything that make produced
	rm -rf $(VENV) build qurate-demo src/qurate.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "qurate needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "python3-venv is missing; install it: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first: what is installed satisfies the ranges of everything that comes after it
$(VENV)/.core: $(INPUTS) | $(VENV)/.made
	$(PIP) torch
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) -e '.[test]'
	@touch $@
