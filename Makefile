# The readiness workbench. `make` lists what it can do; every target sets up what it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest
WHAT ?=
unexport PYTHONDONTWRITEBYTECODE # the tests start hundreds of processes, each of which would compile the workbench anew

.DEFAULT_GOAL := help
.PHONY: help setup spark demo test lint bench soak lab lock clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## make .venv from requirements.lock, every download checked by its hash

$(READY): requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash .ci/setup
	@touch $(READY)

spark: setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .ci/spark.lock

demo: setup ## run the demo shop and print its readiness reviews
	@PATH="$(CURDIR)/$(BIN):$$PATH" workbench demo
	@echo; echo "To type these commands yourself: source $(BIN)/activate"

test: setup ## all tests, the kill tests in short form
	@$(PYTEST) -m "not soak" -n 3 --dist loadfile --no-loadscope-reorder

lint: setup ## formatting, rules, types, import borders
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## print the figures; WHAT=ingest for one
	@$(BIN)/python -m tests.benchmarks $(WHAT)

soak: spark ## the long kill tests, and the catalogue on Spark (435 MB; Java 17 comes from the system)
	@$(PYTEST) -m soak -s --timeout 3600 -p no:randomly

lab: setup ## open the notebooks in JupyterLab
	@$(BIN)/workbench lab

lock: setup ## renew requirements.lock and .ci/spark.lock from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra shared --group dev pyproject.toml -o requirements.lock
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['spark'], sep='\n')" \
		| $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - -o .ci/spark.lock

clean: ## remove the environment and the demo's workspace
	@rm -rf $(VENV) .workbench dist build
