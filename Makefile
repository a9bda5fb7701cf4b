# make demo    sets everything up and learns to pronounce English, in minutes
# make test    sets everything up and runs the tests
# make check   format, lint, types and tests: what has to pass before a change goes in
# make reference   writes docs/reference.md and the file tree of the README anew
# make clean   removes the environment and every cache
#
# The environment lies in .venv; make VENV=elsewhere puts it elsewhere, make PYTHON=python3.12 says with which Python.

VENV ?= .venv
BIN := $(VENV)/bin
# The first Python that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$python && break; done)
# Options for pytest: make test TESTS="-k console".
TESTS ?=

.PHONY: demo test check reference clean

demo: $(VENV)/.demo
	$(BIN)/transduce demo

test: $(VENV)/.development
	$(BIN)/python -m pytest $(TESTS)

check: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(TESTS)

reference: $(VENV)/.development
	$(BIN)/python docs/generate_reference.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find cli tokenizer transformer_core tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say where it is: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps say what is installed already; they go stale with the files that decide it.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.development: pyproject.toml constraints.txt | $(BIN)/python
	extras=$$($(BIN)/python -c 'import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"], sep=",")') && \
	$(BIN)/python -m pip install -c constraints.txt -e ".[$$extras]"
	touch $@ $(VENV)/.demo
