# Everything runs in .venv, made from the locked, hashed requirements.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev

.DEFAULT_GOAL := help

# Compiled modules are kept, whatever the environment says: tests start some thousand processes, which compile all of ours else.
export PYTHONDONTWRITEBYTECODE :=

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(STAMP): requirements.txt pyproject.toml simulators/pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) what requirements.txt lists. It takes two minutes or so, once."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . --editable simulators
	@touch $@

$(DEV): requirements-dev.txt pyproject.toml simulators/pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) what requirements-dev.txt lists. It takes two minutes or so, once."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . --editable simulators
	@touch $@ $(STAMP)

install: $(STAMP) ## make .venv with what the program needs

demo: $(STAMP) ## watch simulated runs become events, about 20 s
	@$(BIN)/lineage-collector demo $(ARGS)

# unit tests that take seconds each, start servers or processes, or read megabytes: `make test` has them
SLOWER := app/test_backfill.py app/test_certificates.py app/test_check_answers.py app/test_check_load.py app/test_check_names.py \
          app/test_cli.py app/test_control.py app/test_forget.py app/test_full_disk.py app/test_hints.py app/test_housekeeping.py \
          app/test_live_view.py app/test_memory.py app/test_plugins.py app/test_run_listing.py app/test_service_end.py \
          config/test_loading.py exporters/test_access.py exporters/test_actions.py exporters/test_backfill.py exporters/test_claimer.py \
          exporters/test_client_limits.py exporters/test_delivery.py exporters/test_file.py exporters/test_kafka_settings.py \
          exporters/test_lineage_pages.py exporters/test_marquez.py exporters/test_metrics.py exporters/test_odd_requests.py \
          exporters/test_openlineage_batch.py exporters/test_run_pages.py ledger/test_backup.py ledger/test_detail.py \
          ledger/test_held_lease.py ledger/test_plans.py ledger/test_postgres_migrations.py ledger/test_replicas.py ledger/test_resend.py \
          ledger/test_retention.py ledger/test_schema.py ledger/test_store.py ledger/test_transfer.py lineage/test_aliases.py \
          lineage/test_events.py lineage/test_sql_reading.py lineage/test_validator.py platforms polling/test_backfill.py \
          polling/test_backfill_for_one_sink.py polling/test_commits.py polling/test_enrichment.py polling/test_families.py \
          polling/test_repeats.py polling/test_source.py simulators test_complexity.py test_http.py test_lineage_docs.py test_logs_docs.py \
          test_mutation.py test_redaction.py

check: $(DEV) ## the quick part of the tests: format, lint, types, imports, unit tests (under 60 s)
	@$(MAKE) --no-print-directory --jobs 3 style types quick

# These go side by side: types take one core for half a minute where mypy has no cache yet, and a second where it has.
style:
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo

types:
	$(BIN)/mypy

quick:
	$(BIN)/python -m pytest -q -n 2 -k "not postgres" tests/unit $(SLOWER:%=--ignore tests/unit/%)

# one more than a small machine has cores: many tests wait for processes
WORKERS ?= 3

test: $(DEV) ## everything: the quick part, then property, contract, real-server, crash and end-to-end tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .
	$(BIN)/deptry --config simulators/pyproject.toml simulators
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder tests --ignore tests/bench

bench: $(DEV) ## measure against the peers and write the tables of docs/performance.md (on a machine with nothing else to do)
	$(BIN)/python -m tests.bench $(ARGS)

simulate: $(DEV) ## run SEEDS=100000 simulated worlds that fail by a seed, from FIRST=0 on, and go on after failing ones
	@$(BIN)/python -m tests.simulation

soak: $(DEV) ## run the real program for MINUTES=60 at RATE=10 times the expected rate: what grows, in one table
	@$(BIN)/python -m tests.soak

mutate: $(DEV) ## break the code in COUNT=150 small ways an area, by SEED=0, in PATHS=..., and look whether a test notices (hours)
	@$(BIN)/python -m tests.mutation

chart: $(DEV) ## make anew what is made from something else in helm/: dashboards, schema, examples, README
	$(BIN)/python -m helm.dashboards
	$(BIN)/python -m tests.chart.generated_files

screenshots: $(DEV) ## take the pictures of the pages in docs/screenshots anew, by a Chromium (1 minute)
	@$(BIN)/python -m tests.screenshots

tools: ## build the Go programs that the tests use (Helm: 4 minutes, once)
	$(PYTHON) -m tests.servers.gotools

lock: $(DEV) ## compile the locked requirements anew from pyproject.toml
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra postgres pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --group pyproject.toml:build -o requirements-build.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --group dev --extra postgres -c requirements.txt pyproject.toml -o requirements-dev.txt

IMAGE    := ghcr.io/lineage-collector/lineage-collector
VERSION   = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' collector/__init__.py)
REVISION  = $(shell git rev-parse HEAD 2>/dev/null)
PACKER    = $(shell if docker info >/dev/null 2>&1; then echo docker; else command -v podman || command -v buildah; fi)

image: ## build the container image by docker, podman or buildah (OPTIONS="--build-arg BASE=...@sha256:...")
	@test -n "$(PACKER)" || { echo "docker (with its engine running), podman or buildah is needed"; exit 1; }
	$(PACKER) build $(OPTIONS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --tag $(IMAGE):$(VERSION) .
	@$(PACKER) images $(IMAGE)

# The lock is for all systems; what only others get is not in the image.
sbom: $(DEV) ## list what the image holds beside its base, for scanners: dist/lineage-collector.cdx.json (CycloneDX)
	@mkdir -p dist
	sed -E "/sys_platform == '(win32|emscripten|darwin)'/,/[^\\]$$/d" requirements.txt \
	  | PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o dist/lineage-collector.cdx.json -

clean: ## remove what was made here
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

.PHONY: help install demo check style types quick test bench simulate soak mutate chart screenshots tools lock image sbom clean
