# Every target does its own set-up: a .venv from the lock file. Needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: requirements/run.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	touch $@

demo: $(VENV)/.run  ## a daemon, a receiver, a few hundred events, a kill -9: watch nothing get lost
	$(BIN)/ringback demo

test: $(VENV)/.dev  ## every test but the long numbers; under five minutes
	$(BIN)/python -m pytest -q

lint: $(VENV)/.dev  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## what CI runs

check-long: $(VENV)/.dev  ## the full numbers: 200 kills, power cuts, all seeds
	$(BIN)/python -m pytest -q --long

bench: $(VENV)/.dev  ## the benchmark's table; ratios count
	$(BIN)/python -m tests.bench

run: $(VENV)/.run  ## the daemon in the foreground
	$(BIN)/ringback run

format: $(VENV)/.dev  ## format the tree
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.dev  ## renew both lock files from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --generate-hashes --python-version 3.11 --extra build pyproject.toml -o requirements/run.lock
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --generate-hashes --python-version 3.11 --extra build --extra dev pyproject.toml -o requirements/dev.lock

clean:  ## remove what the targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.PHONY: help demo test lint check check-long bench run format lock clean
