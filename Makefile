# Everything a person runs here. The work is done elsewhere: tools/setup.py, `headrace`, pytest.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup run test long check chaos mutants browser bench peers clean

PYTHON ?= $(shell for p in python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
DATA ?= ./.headrace
export DATA

BIN := .venv/bin
up_flags = --data "$$DATA" $(if $(PORT),--port "$$PORT") $(if $(MODEL),--model "$$MODEL") \
	$(if $(NATS_URL),--nats-url "$$NATS_URL") $(if $(ONCE),--once)

help:
	@echo 'make run       start everything, run a sample job, serve until Ctrl-C'
	@echo '               PORT=8000  MODEL=<folder or hub name>  NATS_URL=<server>  DATA=./.headrace  ONCE=1'
	@echo 'make test      every test, but those of make long'
	@echo 'make long      the tests that take long'
	@echo 'make check     format, lint, types, layers, and the tests that need no engine'
	@echo 'make chaos     everything goes wrong at once, for a while'
	@echo '               MINUTES=10  SEED=<a number>  CUTS=10  READERS=2000  RESULT=<file for the figures, .json>'
	@echo '               FAULTS="<name>,<name>" only these'
	@echo 'make mutants   bugs planted in the code and in the model of the protocol: each must be caught'
	@echo 'make browser   a browser reads while connections are cut and result actors die; it needs chromium'
	@echo '               READERS=8  SEED=<a number>'
	@echo 'make bench     the benchmarks, into benchmarks/results/ and README.md'
	@echo 'make peers     the benchmark beside Celery and Ray Serve'\''s task consumer, which it installs first'
	@echo 'make setup     the virtual environment alone; the others do it first'
	@echo '               PYTHON=python3.11'
	@echo 'make clean     remove the virtual environment and what tools left behind, not the data'

setup:
	@$(if $(strip $(PYTHON)),,echo 'Headrace needs Python 3.11 or newer: install it, or name one with PYTHON=' >&2; exit 1;) \
	exec $(PYTHON) tools/setup.py

run: setup
	@exec $(BIN)/headrace up $(up_flags)

test: setup
	@exec $(BIN)/pytest -m 'not long' -n 2 --dist loadfile --no-loadscope-reorder

long: setup
	@exec $(BIN)/pytest -m long

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports --no-cache --no-logo
	@MODEL_FAULTS=2 $(BIN)/pytest tests/unit tests/contract tests/model -m 'not vllm'

chaos: setup
	@export MINUTES="$${MINUTES:-10}" CUTS="$${CUTS:-10}" READERS="$${READERS:-2000}"; \
	exec $(BIN)/pytest tests/chaos$(if $(FAULTS),/test_chaos.py) -s

mutants: setup
	@$(BIN)/python -m tests.mutants
	@$(BIN)/python -m tests.model --all

browser: setup
	@export READERS="$${READERS:-8}"; exec $(BIN)/pytest tests/browser -s

bench: setup
	@for name in overhead gpu_vs_cpu recovery burst fairness analysis_job sync_vs_async report; do $(BIN)/python -m "benchmarks.$$name" || exit; done

peers: setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement locks/peers.txt
	@exec $(BIN)/python -m benchmarks.peers

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find actors benchmarks tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
