# The interface to this project. `make help` lists what it offers.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
SOURCES := l2t l2t_ray analysis tests benchmarks clusters
export RAY_USAGE_STATS_ENABLED ?= 0
export MLFLOW_DISABLE_TELEMETRY ?= true

.DEFAULT_GOAL := help
.PHONY: help setup quickstart check test test-all chaos fuzz load lint format bench docs clean

help:            ## list these commands
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

$(BIN)/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3 setup"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'  # setuptools warns of every editable installation
	@touch $@

setup: $(BIN)/.ready           ## build .venv from nothing (about 5.5 GB with CUDA's libraries)

quickstart: setup        ## train a source and four methods on digits, then print the statistics
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m l2t_ray.pretrain sweeps/quickstart_source.yaml  # one thread is the fastest for so narrow a network
	$(BIN)/python -m l2t_ray.sweep sweeps/quickstart.yaml
	$(BIN)/python -m analysis.stats quickstart --out report/quickstart --attach

check: lint test         ## what CI runs

test: setup              ## the tests
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(PYTEST)

test-all: setup          ## the tests with the slow ones
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile -m 'not gpu' $(PYTEST)

chaos: setup             ## kill trainings, nodes, launches and servers 50 times, and check the ledgers (half an hour)
	$(BIN)/python -m tests.chaos.campaign $(CHAOS)

fuzz: setup              ## thousands of damaged files through the command lines
	L2T_FUZZ=$${L2T_FUZZ:-10} $(BIN)/python -m pytest tests/fuzz --timeout 3600

load: setup              ## 2,000 runs while nodes are lost; a ledger with the results of 8 nodes (half an hour)
	$(BIN)/python -m tests.load.sweep_of_thousands
	$(BIN)/python -m tests.load.ledger_under_load

lint: setup              ## style, docstrings and strict types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: setup            ## format the sources
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: setup             ## time the bilevel step against its rivals
	$(BIN)/python -m benchmarks.bench_step

docs: setup              ## build the documentation's site into build/docs, warnings as errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "the site: build/docs/index.html"

clean:           ## remove the environment, the caches and the site (no results)
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build *.egg-info
