# Each target is a few plain commands; with an environment of your own, paste them.
PYTHON ?= python3
VENV ?= .venv
CORES ?= $(shell nproc 2>/dev/null || echo 2)
# Which build of torch: auto takes CUDA when nvidia-smi lists a card.
TORCH ?= auto
TORCH_VERSION := 2.13.0
# An index that serves CPU builds of torch, for machines whose configured index has none.
TORCH_CPU_INDEX ?=
BIN := $(VENV)/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: setup pipelines test test-slow check bench docs clean

setup: $(VENV)/.ok

$(VENV)/.ok: pyproject.toml requirements/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"neuropipe needs Python 3.11 or newer, found {v.major}.{v.minor}: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch $(TORCH_VERSION) ($(TORCH))"
	@set -e; build="$(TORCH)"; \
	if [ "$$build" = auto ]; then \
	  if nvidia-smi -L >/dev/null 2>&1; then build=cuda; else build=cpu; fi; fi; \
	if [ "$$build" = cuda ]; then \
	  $(BIN)/pip install "torch===$(TORCH_VERSION)" -c requirements/constraints.txt; \
	elif [ -n "$(TORCH_CPU_INDEX)" ]; then \
	  $(BIN)/pip install --no-deps --index-url "$(TORCH_CPU_INDEX)" "torch==$(TORCH_VERSION)+cpu"; \
	elif ! $(BIN)/pip install -q --no-deps "torch==$(TORCH_VERSION)+cpu" 2>/dev/null; then \
	  echo "no CPU build at the configured index: taking the default one (large); or set TORCH_CPU_INDEX"; \
	  $(BIN)/pip install "torch==$(TORCH_VERSION)" -c requirements/constraints.txt; \
	fi
	$(BIN)/pip install -q -c requirements/constraints.txt -e ".[test]"
	@touch $@

pipelines: setup
	$(RUN) neuropipe unlock
	$(RUN) snakemake --workflow-profile workflow/profiles/local --cores $(CORES) pipelines
	@echo "report: results/report/index.html"

test: setup
	$(RUN) python -m pytest -n 2 -m "not slow and not gpu and not network"

test-slow: setup
	$(RUN) python -m pytest -n 2 -m "slow"

check: setup
	$(BIN)/pip install -q -c requirements/constraints.txt -e ".[dev]"
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) lint-imports
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow

bench: setup
	$(RUN) python kernels/benchmarks/run.py

docs: setup
	$(BIN)/pip install -q -c requirements/constraints.txt -e ".[docs]"
	$(RUN) python -m sphinx -q -W -b html docs docs/_build
	@echo "documentation: docs/_build/index.html"

clean:
	rm -rf $(VENV) results .snakemake docs/_build
