# Everything a newcomer needs: Python 3.11 or newer and make. The first call makes .venv and installs into it;
# later calls start at once, and install again only when pyproject.toml has changed.

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --editable

# `make PYTHON=/path/to/python demo` decides; else the first of these that runs and is new enough.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3)

# One test process per core, one torch thread per process.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test slow oldest audit lint format docs hooks clean distclean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.has-train ## Draw the embedded data set, train, compare, and write runs/demo/report.html
	@$(BIN)/diffusionmtl demo --out runs/demo

test: lint ## Everything that must hold before a change lands: lint, types, layers, tests
	$(PYTEST) -n $(WORKERS)

slow: $(VENV)/.has-dev ## The tests that train or draw at length, left out of `make test`
	$(PYTEST) -n $(WORKERS) -m slow

oldest: $(VENV)/.has-dev ## The fast tests with the oldest versions that pyproject.toml admits (of all but torch)
	$(BIN)/python tools/oldest_versions.py --venv $(VENV)/oldest
	OMP_NUM_THREADS=1 $(VENV)/oldest/bin/python -m pytest -n $(WORKERS)

audit: $(VENV)/.has-dev ## What is publicly known against the packages installed, where that can be asked; no test depends on it
	$(BIN)/python tools/audit.py train demo scale export video

lint: $(VENV)/.has-dev ## Style, formatting, types, who may import whom, and the Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile

format: $(VENV)/.has-dev ## Mend what ruff can mend by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.has-docs ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

hooks: $(VENV)/.has-dev ## Run the checks at each commit
	$(BIN)/pre-commit install

clean: ## Remove what the tools leave behind (not .venv, not runs/)
	rm -rf build dist docs/_build .test-results .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove .venv too
	rm -rf $(VENV)

# A pyenv shim may stand on the path and still refuse to run, so each candidate is tried rather than looked up.
$(VENV)/.made:
	@if $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11) or sys.prefix == sys.base_prefix)' \
	  >/dev/null 2>&1; then touch $@; exit 0; fi; \
	for python in $(PYTHONS); do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$($$python --version)"; \
	    $$python -m venv --clear $(VENV) && touch $@; exit $$?; \
	  fi; \
	done; \
	echo "make: none of [$(PYTHONS)] is a Python 3.11 or newer that can make a virtual environment;" \
	  "install one (on Debian: python3 and python3-venv) or name it: make PYTHON=/path/to/python" >&2; exit 1

$(VENV)/.has-train: pyproject.toml | $(VENV)/.made
	@echo "Installing into $(VENV): a few minutes the first time"
	$(PIP_INSTALL) '.[train]'
	@touch $@

$(VENV)/.has-dev: pyproject.toml | $(VENV)/.made
	@echo "Installing into $(VENV): a few minutes the first time"
	$(PIP_INSTALL) '.[train,dev]'
	@touch $(VENV)/.has-train $@

$(VENV)/.has-docs: pyproject.toml | $(VENV)/.made
	@echo "Installing into $(VENV): a few minutes the first time"
	$(PIP_INSTALL) '.[train,docs]'
	@touch $(VENV)/.has-train $@
