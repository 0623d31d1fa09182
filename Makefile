# Two commands do everything on a fresh machine: make train, make test.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= cartpole
ARGS ?=
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
# Both make XLA compile in less time: its older emitters, and one thread for each program.
QUICK := --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters \
	--xla_cpu_parallel_codegen_split_count=1

.PHONY: train test test-long test-fast test-suites lint docs bench clean

train: $(VENV)/.installed
	$(BIN)/ppg-jax train $(CONFIG) $(ARGS)

# XLA's older emitters compile in half the time, but round the same training differently in another
# program. Tests that compare such programs are marked "bits" and run apart, compiled as users do.
test: $(VENV)/.installed-dev
	XLA_FLAGS="$(XLA_FLAGS) $(QUICK)" $(PYTEST) -m "not bits and not long"
	$(PYTEST) -m "bits and not long"

# What takes half a minute and more for each test, so that make test stays under 15 minutes.
test-long: $(VENV)/.installed-dev
	$(PYTEST) -m long

# For the inner loop: the pure layers, without what takes long.
FAST := functional config kernels networks envs algorithm report test_layering.py
test-fast: $(VENV)/.installed-dev
	XLA_FLAGS="$(XLA_FLAGS) $(QUICK)" $(PYTEST) -m "not bits and not slow and not long" $(FAST:%=tests/%)

# Every suite of environments, and the configurations for them, in a virtual environment of its own
# (2.9 GB). After the installation it takes 5 minutes on two cores.
test-suites: $(VENV)-suites/.installed
	XLA_FLAGS="$(XLA_FLAGS) $(QUICK)" $(VENV)-suites/bin/python -m pytest -n 2 --dist worksteal \
		tests/envs/test_suites.py tests/envs/test_procgen.py tests/config/test_configs.py \
		-k "not test_configs or builds"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The variable silences an advertisement.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/throughput.py minatar/breakout --seeds 1 8
	$(BIN)/python benchmarks/memory.py minatar/breakout

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@ $(VENV)/.installed

$(VENV)-suites/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-suites
	$(VENV)-suites/bin/python -m pip install --quiet --editable ".[suites,test]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-suites build dist site .pytest_cache .mypy_cache .ruff_cache
