# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

# setuptools warns that the folders here come first in imports, which is what an editable installation is for.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1" -c constraints.txt
	PYTHONWARNINGS="ignore:Editable installation" $(BIN)/pip install --quiet -c constraints.txt torch --editable . --group dev
	touch $@

# The libraries that the benchmark compares with stay out of .venv: nothing else needs them, or may depend on them.
.venv-peers/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --upgrade "pip>=25.1" -c constraints.txt
	PYTHONWARNINGS="ignore:Editable installation" .venv-peers/bin/pip install --quiet -c constraints.txt torch \
		--editable ".[peers]" --group dev
	touch $@

.PHONY: demo test lint types bench hunt peers docs clean

demo: .venv/ready
	$(BIN)/python examples/digits.py

test: .venv/ready lint types
	$(BIN)/pytest -n auto

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

peers: .venv-peers/ready

# With the other libraries where `make peers` has installed them; without, the table says which are missing.
bench: $(if $(wildcard .venv-peers/ready),.venv-peers,.venv)/ready
	$(<D)/bin/python -m tests.bench

# Longer than a test may be: ten thousand runs that must not be called wrong, more mutants, Hypothesis at its most.
hunt: .venv/ready
	$(BIN)/python -m tests.hunt --save
	MUTANTS=300 $(BIN)/pytest -n auto tests/testing/test_replay.py
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -n auto tests/states tests/testing/test_stateful.py tests/testing/test_strategies.py \
		tests/callbacks/test_stacks.py

docs: .venv/ready
	$(BIN)/python -m tests.docs

clean:
	rm -rf .venv .venv-peers *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
