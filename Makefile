# Everything runs in .venv, which is made when it is first needed. `make` alone lists the targets.

.DEFAULT_GOAL := help
.PHONY: help demo test lint types pytest docs linkcheck examples bench wheel clean
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& command -v $$python && break; done)
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# Two processes with one thread each beat one process with two: the tests' models are small.
pytest examples: export OMP_NUM_THREADS := 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## train for a minute on Bach, write music, a picture, and a page that plays it
	@$(BIN)/notelstm demo --overwrite
	@echo "          (notelstm is $(BIN)/notelstm here)"

# The tests look at the site that has just been built; alone, they build one of their own.
test: export NOTELSTM_SITE := $(CURDIR)/docs/_build/html
test: lint types docs pytest examples ## everything that keeps main green, in that order

lint: $(VENV)/.dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy --strict, and pyright: is every public name typed?
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes notelstm --ignoreexternal

pytest: $(VENV)/.dev ## tests and doctests
	$(BIN)/pytest -n 2 --dist loadgroup --doctest-modules tests src

docs: $(VENV)/.dev ## build the site into docs/_build/html; a warning is an error
	@rm -rf docs/api/generated
	$(BIN)/sphinx-build -n -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

examples: $(VENV)/.dev ## run every example (the tests install and run the plugin package)
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	cp examples/*.py examples/*.ipynb "$$folder"; cd "$$folder"; \
	for script in *.py; do echo "examples/$$script"; "$(CURDIR)/$(BIN)/python" "$$script"; done; \
	for notebook in *.ipynb; do "$(CURDIR)/$(BIN)/jupyter" execute "$$notebook"; done

linkcheck: $(VENV)/.dev ## ask the network whether the links to other sites still lead somewhere
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/linkcheck

bench: $(VENV)/.dev ## time the library against its baselines; some need NOTELSTM_MAESTRO
	$(BIN)/pytest -p no:xdist -s --timeout 0 tests/benchmarks/bench_*.py

wheel: $(VENV)/.dev ## build dist/, install it in an environment of its own, run all tests against it
	@rm -rf dist build/wheel
	$(BIN)/python -m hatchling build -d dist
	@mkdir -p build/wheel/source && tar -xf dist/*.tar.gz -C build/wheel/source --strip-components 1
	$(BIN)/python -m venv build/wheel/env
	build/wheel/env/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt \
		"$$(echo dist/*.whl)[dev]"
	cd build/wheel/source && PATH="$(CURDIR)/build/wheel/env/bin:$$PATH" pytest -n 2 --dist loadgroup $(TESTS)
	@ls -l dist

clean: ## remove everything that make has made
	rm -rf $(VENV) build dist docs/_build docs/_made docs/api/generated demo
	rm -rf .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "notelstm needs Python 3.11 to 3.14: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is missing: on Debian and Ubuntu, install python3-venv" >&2; exit 1; }

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing notelstm (a few minutes the first time: torch is large)"
	@$(INSTALL) -e '.[bach,plot]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing notelstm and what its tests need (a few minutes the first time)"
	@$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.demo
