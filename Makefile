# Every target does its own set-up: the virtual environment is made once and again when the requirements change.
# Tests train on one thread each; several processes share the cores.
PYTEST := -m pytest -q -n auto --maxprocesses 8
PYTHON ?= python3
REFERENCE ?= ../shared/reference
DATA ?= ../shared/data
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: test demo check slow fuzz conformance gpu-check setup clean

test: setup
	$(BIN)/python $(PYTEST) -m "not slow"

demo: setup
	$(BIN)/regraft demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python $(PYTEST) tests -m "not slow" --ignore tests/reference --ignore tests/reliability --ignore tests/cli

slow: setup
	$(BIN)/python -m pytest -q -m slow

fuzz: setup
	$(BIN)/python tools/fuzz.py --cases 10000

# The authors' recorded outputs lie beside the project where they are at hand: make conformance REFERENCE=folder
conformance: setup
	$(BIN)/python tools/conformance.py --reference $(REFERENCE) --out docs/conformance.md

# Proves regraft on one GPU in eight minutes; needs no installation beyond what benchmarks/README.md names.
gpu-check:
	PYTHONPATH=src $(PYTHON) tools/gpu_check.py $(if $(wildcard $(REFERENCE)),--reference $(REFERENCE)) \
		$(if $(wildcard $(DATA)),--data $(DATA)) $(if $(PEER),--peer $(PEER))

# One benchmark by name, as far as its cells are not there yet: make benchmark-conditional DATA=folder
benchmark-%: setup
	$(BIN)/python $(wildcard benchmarks/*/$*.py) $(if $(wildcard benchmarks/quality/$*.py),$(if $(filter intervals,$*),,--data $(DATA)))

setup: $(STAMP)

$(STAMP):
	$(PYTHON) -c 'import sys; sys.exit("regraft needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	rm -f $(VENV)/.ready-*
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache demo-run
