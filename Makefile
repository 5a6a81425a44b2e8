# dyeworks: `make help` lists the targets.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?=

.PHONY: help setup demo test slow check up down bench docs base

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)

setup: $(READY) ## create the environment in .venv, with the command dyeworks

demo: $(READY) ## run the whole ring once on this machine (DATA=folder: with your own pictures)
	$(BIN)/dyeworks demo $(if $(DATA),--data "$(DATA)")

$(VENV)/gpu/.ready: infra/gpu.lock $(READY)
	$(BIN)/uv pip install --quiet --require-hashes --no-deps --target $(VENV)/gpu -r infra/gpu.lock
	touch $@

test: $(READY) $(VENV)/gpu/.ready ## pass every test; the end-to-end ones, which mostly wait, beside the others
	@mkdir -p build
	@$(BIN)/python -m pytest -m "not e2e and not slow" >build/unit.log 2>&1 & unit=$$!; \
	$(BIN)/python -m pytest -m "e2e and not slow"; e2e=$$?; \
	wait $$unit; unit=$$?; cat build/unit.log; exit $$((e2e || unit))

slow: $(READY) ## pass the tests that take minutes by their nature: hosts that die, campaigns of races, two models on S3
	$(BIN)/python -m pytest -m slow

check: $(READY) ## ruff and mypy, strict
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

up: $(READY) ## run all services and print their addresses; ctrl-C stops them
	$(BIN)/dyeworks up

down: $(READY) ## stop what an earlier `make up` has left
	$(BIN)/dyeworks down

bench: $(READY) ## measure, into build/bench/bench.json
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tests.bench

docs: $(READY) ## write docs/reference.md from the code
	$(BIN)/python -m tests.reference

base: $(READY) ## build the embedded base model from nothing (hours)
	$(BIN)/python -m infra.base.build
