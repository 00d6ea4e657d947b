# Everything runs from a fresh clone with Python 3.11 (or newer) and make; each target makes .venv itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := runs/demo
HTML := docs/_build/html

.PHONY: help setup demo test test-slurm lint docs linkcheck bench clean

help:
	@echo "make demo    train IGR and Gumbel-Softmax on scikit-learn's digits and compare them"
	@echo "make test    lint, types, tests, doctests"
	@echo "make test-slurm  tests on a Slurm cluster that they start on this machine (Debian: apt-get install munge slurmctld slurmd slurm-client)"
	@echo "make docs    the documentation, its tutorials run, under $(HTML)"
	@echo "make linkcheck  asks every address that the documentation names"
	@echo "make lint    ruff and mypy alone"
	@echo "make bench   every benchmark of speed, with JSON under benchmarks/results/ and docs/benchmarks.md (DATA_DIR=FOLDER if MNIST is there, DEVICE=cuda)"
	@echo "make clean   remove .venv, caches and the demo's runs"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Expected Python 3.11 or newer on the PATH; install it, or run: make PYTHON=/path/to/python3.11"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Expected Python 3.11 or newer; got $$("$(PYTHON)" --version). Run: make PYTHON=/path/to/python3.11"; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[experiments,cluster,explore,interoperability,docs,dev]"
	@touch $(READY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest tests src/igr --doctest-modules --doctest-ignore-import-errors --durations=10 -rs -n auto --maxprocesses 4 --dist loadfile

docs: $(READY)
	$(BIN)/python -m sphinx -b html --fail-on-warning --keep-going --quiet docs $(HTML)
	@echo "$(HTML)/index.html"

# Asks every address that the documentation names; needs a network.
linkcheck: $(READY)
	$(BIN)/python -m sphinx -b linkcheck -D plot_gallery=0 --quiet docs docs/_build/linkcheck

# Not part of CI: it needs Slurm's daemons, and waits for their clocks.
test-slurm: $(READY)
	@$(BIN)/python tests/slurm_cluster.py --check
	$(BIN)/python -m pytest -m slurm tests/slurm --durations=10

demo: $(READY)
	$(BIN)/python -m igr.cli.demo --out $(DEMO)

bench: $(READY)
	$(BIN)/python benchmarks/run_all.py $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(if $(DEVICE),--device "$(DEVICE)")

clean:
	rm -rf $(VENV) $(DEMO) docs/_build docs/auto_tutorials docs/sg_execution_times.rst .pytest_cache .mypy_cache .ruff_cache .hypothesis
