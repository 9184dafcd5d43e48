# The front door. `make demo` and `make test` do all set-up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup demo test lint proto lock bench
.DEFAULT_GOAL := help

help:
	@echo "make demo | test | lint | bench | setup | proto | lock"

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

lock: ## resolve the floors of pyproject.toml anew; names no registry
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet pip-tools
	build/lock/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); print('\n'.join(p['project']['dependencies'] + p['project']['optional-dependencies']['node'] + p['dependency-groups']['dev']))" > build/lock/dev.in
	build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements/dev.txt build/lock/dev.in

proto: setup
	$(BIN)/python scripts/generate_proto.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy client server scripts
	$(BIN)/mypy tests
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_proto.py --check
	$(BIN)/buf lint proto
	$(BIN)/python scripts/check_breaking.py

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: setup ## each writes build/bench/NAME.json; peers are used where they are installed
	$(BIN)/python benchmarks/exact_lookup.py --size 1000000
	$(BIN)/python benchmarks/near_lookup.py --size 1000000
	$(BIN)/python benchmarks/group_commit.py
	$(BIN)/python benchmarks/policy_decision.py

demo: setup
	$(BIN)/python scripts/demo
