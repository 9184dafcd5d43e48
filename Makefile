# The front door. `make demo` and `make test` do all set-up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
BENCH := build/bench-venv
# Empty is unset: without bytecode every process would compile a thousand modules anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo taskforce test-taskforce test test-faults schema-dump fuzz audit-deps scan-tls lint proto lock bench bench-quick
.DEFAULT_GOAL := help

help:
	@echo "make demo | taskforce | test | test-faults | fuzz | audit-deps | scan-tls | lint | bench | bench-quick | setup | proto | lock"

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
	build/lock/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); print('\n'.join(p['dependency-groups']['bench']))" > build/lock/bench.in
	build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -c requirements/dev.txt \
	    -o requirements/bench.txt build/lock/bench.in

proto: setup
	$(BIN)/python scripts/generate_proto.py

scan-tls: setup ## sslyze (AGPL, in an environment of its own) against both listeners: half a minute
	$(PYTHON) -m venv build/sslyze && build/sslyze/bin/pip install --quiet sslyze
	$(BIN)/python scripts/scan_tls.py build/sslyze/bin/python

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy client server scripts benchmarks
	$(BIN)/mypy tests
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_proto.py --check
	$(BIN)/buf lint proto
	$(BIN)/python scripts/check_breaking.py

test: setup ## five workers for two cores: tests of real nodes wait longer than they work
	$(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

test-faults: setup ## the campaign of faults on real nodes, recounted: a quarter of an hour
	$(BIN)/python -m pytest tests/faults -m "slow or not slow" --timeout 3600 -p no:xdist

fuzz: setup ## every decoder, a minute each: FUZZ_SECONDS=600 for longer
	$(BIN)/python -m pytest tests/fuzz -m slow -p no:xdist --timeout 0 -q

audit-deps: ## bandit over the code, pip-audit over what is locked: needs the network, or OSV_URL=...; OFFLINE=1 for bandit alone
	$(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet bandit pip-audit
	build/audit/bin/python scripts/audit_dependencies.py $(if $(OFFLINE),--offline) $(if $(OSV_URL),--osv-url $(OSV_URL))

schema-dump: setup ## populated databases of the newest schema; before a migration is added
	$(BIN)/python -m tests.compat.dump $(if $(REVISION),--revision $(REVISION))

bench-quick: setup ## all rows at a million, without peers: two minutes, on a slow machine eight
	$(BIN)/python -m benchmarks.suite quick $(ROWS)

bench: $(BENCH)/.ready ## full size, against the peers: 35 minutes to hours; ROWS="near_flat ingest" for some
	$(BENCH)/bin/python -m benchmarks.suite full $(ROWS)

$(BENCH)/.ready: requirements/dev.txt requirements/bench.txt pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(BENCH)/.ready

demo: setup
	$(BIN)/python scripts/demo

taskforce: setup ## the taskforce of November 2020, replayed on 17 nodes: some minutes
	$(BIN)/python scripts/taskforce

test-taskforce: setup ## a small one, and that its figures follow the databases: a minute
	$(BIN)/python -m pytest tests/e2e/test_e2e_taskforce.py -m slow -p no:xdist
