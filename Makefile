# Every developer command. A fresh clone needs only python3 (3.11 or newer, with venv) and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The core is BLAS-bound on tiny matrices: more threads only add switching.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

RUN_STAMP := $(VENV)/.stamp-run
DEV_STAMP := $(VENV)/.stamp-dev
BENCH_STAMP := $(VENV)/.stamp-bench

.DEFAULT_GOAL := help
.PHONY: help install demo test test-examples test-browser test-slow check lint format types contracts bench audit sbom claims docs ui screens clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 20

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Tunewright needs Python 3.11 or newer; got %d.%d. Say: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)

# What the demo needs: the package with its learning libraries, and torch at the version we develop against.
$(RUN_STAMP): pyproject.toml constraints-dev.txt | $(BIN)/python
	$(PIP) install -qq -c constraints-dev.txt torch==2.13.0
	$(PIP) install -qq -c constraints-dev.txt -e '.[trees,plot]'
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(PIP) install -qq -c constraints-dev.txt lightgbm catboost -e '.[dev,docs,trees,sklearn,frames,plot,bench,optim,postgres,ray,slurm,remote,lightning,keras,huggingface,hydra,tensorboard,wandb,shap]'
	@touch $@

$(BENCH_STAMP): $(DEV_STAMP)
	$(PIP) install -qq -c constraints-dev.txt -e '.[bench]'
	@touch $@

install: $(DEV_STAMP)  ## Create .venv with everything for development

demo: $(RUN_STAMP)  ## Tune a real model on two workers and write demo-report.html (about a minute)
	$(BIN)/tunewright demo

test: $(DEV_STAMP)  ## Run the quick tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not stat and not examples and not browser'

test-examples: $(DEV_STAMP)  ## Run every example of the documentation
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'examples and not slow'

test-browser: $(DEV_STAMP)  ## Drive the dashboard with a real browser (needs chromium and npm)
	@test -d ui/node_modules || npm ci --prefix ui --no-audit --no-fund --silent
	$(BIN)/python -m pytest -m browser tests/browser

test-slow: $(DEV_STAMP)  ## Run the slow and the statistical tests
	$(BIN)/python -m pytest -m 'slow or stat'

check: lint types contracts  ## Lint, types, import contracts and architecture tests
	$(BIN)/python -m pytest tests/architecture

lint: $(DEV_STAMP)  ## Report what the linter and the formatter would change
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV_STAMP)  ## Apply the formatter and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV_STAMP)  ## Check types (strict)
	$(BIN)/mypy

contracts: $(DEV_STAMP)  ## Check who imports whom
	$(BIN)/lint-imports

bench: $(BENCH_STAMP)  ## Measure overhead, storage and crash safety beside other tools
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.storage
	$(BIN)/python -m benchmarks.crash

audit: $(DEV_STAMP)  ## Look for known holes in the code and in what is installed
	$(BIN)/python .ci/audit.py

sbom: $(DEV_STAMP)  ## Write what is installed to sbom.json, as CycloneDX
	$(BIN)/python .ci/audit.py --sbom sbom.json

claims: $(DEV_STAMP)  ## Show every published claim with its measured result
	$(BIN)/python -m claims table

ui:  ## Compile the dashboard (needs npm)
	cd ui && npm ci --no-audit --no-fund --silent && npx tsc -p .

screens: $(DEV_STAMP)  ## Take the pictures of the dashboard for the documentation again (needs chromium)
	$(BIN)/python -m benchmarks.screenshots

docs: $(DEV_STAMP)  ## Build the documentation; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

clean:  ## Remove build output (keeps .venv)
	rm -rf build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.*
