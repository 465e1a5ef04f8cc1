# Everything here needs Python 3.11 or newer, git and make, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Handed on through the environment, so that quotation marks in a prompt reach the program as they are.
export PROMPT ?= three red circles above a blue striped square, and the word "GO"

.PHONY: help run test check lint types docs docs-check wheel-check bench audit clean

help:
	@echo "make run [PROMPT='...']  one run of the loop on the built-in world"
	@echo "make test                all tests"
	@echo "make check               lint, types, generated docs, wheel"
	@echo "make bench               the benchmarks, as tables"
	@echo "make audit               pins held against known advisories; asks a database on the internet"

run: $(VENV)/run.ok
	@# Exit code 3 only says that the best image lacks something.
	@$(BIN)/gems run "$$PROMPT" || [ $$? -eq 3 ]

test: $(VENV)/test.ok
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: lint types docs-check wheel-check

lint: $(VENV)/dev.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.ok
	$(BIN)/python scripts/typecheck.py

docs: $(VENV)/dev.ok
	$(BIN)/python scripts/make_docs.py

docs-check: $(VENV)/dev.ok
	$(BIN)/python scripts/make_docs.py --check

wheel-check: $(VENV)/dev.ok
	$(BIN)/python scripts/check_wheel.py

bench: $(VENV)/test.ok
	$(BIN)/python benchmarks/blocks_world.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/memory_helps.py
	$(BIN)/python benchmarks/memory_scale.py
	$(BIN)/python benchmarks/checkpoints.py
	$(BIN)/python benchmarks/skills_help.py
	$(BIN)/python benchmarks/skills_scale.py
	$(BIN)/python benchmarks/ways_in.py
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python -m benchmarks.faults
	$(BIN)/python -m benchmarks.kills
	$(BIN)/python benchmarks/diffusers_batching.py
	$(BIN)/python benchmarks/engines.py

audit: | $(BIN)/python
	$(BIN)/python -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "GEMS needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.ok: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/test.ok: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/run.ok

$(VENV)/dev.ok: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/test.ok $(VENV)/run.ok
