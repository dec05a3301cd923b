# Every target does its own set-up: a .venv from the lock file. Needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# make install: everything below PREFIX but the configuration; DESTDIR stages it for a package.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
LIBDIR = $(PREFIX)/lib/ringback
# An installation is made whole beside the one in use and takes its place at the end: one that fails leaves the old one.
# Names change places, files are removed afterwards: to be broken off in the middle of that leaves a whole one, too.
STAGED = $(DESTDIR)$(LIBDIR).new
RETIRED = $(DESTDIR)$(LIBDIR).old
# The account that runs it must be able to read it, whatever the umask of who installs.
READABLE = umask 022 &&
PIP_INSTALL = $(READABLE) "$(STAGED)/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile
UNITS := ringback.service ringback.socket ringback-control.socket

# Processes the tests run in; auto: one more than there are cores, for they wait more than they compute.
JOBS ?= auto
PYTEST = $(BIN)/python -m pytest -q -n $(JOBS)

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
	$(PYTEST)

lint: $(VENV)/.dev  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## what CI runs

check-long: $(VENV)/.dev  ## the full numbers: 200 kills, power cuts, all seeds
	$(PYTEST) --long

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

install:  ## the daemon and its units below PREFIX (/usr/local), staged in DESTDIR
	@case "$$($(PYTHON) -c 'import sys; print(sys.base_prefix)')/" in /root/*|/home/*) \
	  echo "warning: $(PYTHON) lies in a home folder, which the unit may not see: use make install PYTHON=/usr/bin/python3" >&2;; esac
	rm -rf "$(STAGED)"
	$(READABLE) $(PYTHON) -m venv "$(STAGED)"
	$(PIP_INSTALL) --require-hashes -r requirements/run.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation .
	"$(STAGED)/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check hatchling editables setuptools
	find "$(STAGED)/bin" -mindepth 1 ! -name 'python*' -delete
	$(READABLE) "$(STAGED)/bin/python" -m compileall -q -s "$(STAGED)" -p "$(LIBDIR)" "$(STAGED)/lib"
	rm -rf "$(RETIRED)"
	if test -e "$(DESTDIR)$(LIBDIR)"; then mv "$(DESTDIR)$(LIBDIR)" "$(RETIRED)" || exit 1; fi; \
	  mv "$(STAGED)" "$(DESTDIR)$(LIBDIR)"
	rm -rf "$(RETIRED)"
	$(READABLE) install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(PREFIX)/lib/sysusers.d" \
	  "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d" "$(DESTDIR)$(SYSCONFDIR)/ringback/endpoints.d"
	sed 's|@LIBDIR@|$(LIBDIR)|' systemd/wrapper.in >"$(DESTDIR)$(PREFIX)/bin/ringback"
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/ringback"
	for unit in $(UNITS); do \
	  sed -e 's|/usr/local/bin/|$(PREFIX)/bin/|' -e 's|/etc/ringback/|$(SYSCONFDIR)/ringback/|' systemd/$$unit \
	    >"$(DESTDIR)$(UNITDIR)/$$unit" && chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; done
	install -m 644 systemd/ringback.sysusers "$(DESTDIR)$(PREFIX)/lib/sysusers.d/ringback.conf"
	install -m 644 systemd/ringback.tmpfiles "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/ringback.conf"
	install -m 644 config/endpoints.d/crm.toml.example "$(DESTDIR)$(SYSCONFDIR)/ringback/endpoints.d/crm.toml.example"
	test -e "$(DESTDIR)$(SYSCONFDIR)/ringback/ringback.toml" || \
	  install -m 644 config/ringback.toml "$(DESTDIR)$(SYSCONFDIR)/ringback/ringback.toml"

uninstall:  ## remove what install put there; configuration and state stay
	rm -rf "$(DESTDIR)$(LIBDIR)" "$(STAGED)" "$(RETIRED)"
	rm -f "$(DESTDIR)$(PREFIX)/bin/ringback" $(foreach unit,$(UNITS),"$(DESTDIR)$(UNITDIR)/$(unit)") \
	  "$(DESTDIR)$(PREFIX)/lib/sysusers.d/ringback.conf" "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/ringback.conf"

clean:  ## remove what the targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.PHONY: help demo test lint check check-long bench run format lock install uninstall clean
