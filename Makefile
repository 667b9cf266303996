# `make` lists the targets. Works with GNU Make 3.81.
TORCH ?= auto
PYTHON ?=
BIN := .venv/bin
export TORCH PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup night test check wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## create .venv with everything in it (TORCH=auto|cpu|cuda, PYTHON=python3.12)
	@sh scripts/setup.sh

night: setup ## one sample day and the night after it, on a throw-away home
	@$(BIN)/ada demo

test: check ## lint, types and all tests
	@echo "== pytest"
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

check: setup ## lint and types only
	@echo "== ruff"
	@$(BIN)/ruff check --quiet
	@echo "== mypy"
	@$(BIN)/mypy

wheel: setup ## build the wheel into dist/
	@rm -rf build
	@$(BIN)/python -m build --wheel --no-isolation

clean: ## remove .venv, build outputs and caches; never var/, where the minds live
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find ada_memory tests -name __pycache__ -type d -prune -exec rm -rf {} +
