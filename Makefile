# What the README and CI run. Each target makes .venv first where there is none; a second run installs nothing.
PYTHON ?= python3.11
BIN := .venv/bin
TESTS := $(BIN)/python -m pytest
# Files in their order, so that those with few long tests do not come last. End-to-end tests run one by one: they start
# two processes of their own.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check slow peers lint docs unit integration e2e requirements

demo: .venv
	$(BIN)/llmrl demo

test: lint docs unit integration e2e
	@echo "make test: all parts passed"

check: lint docs unit

lint: .venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv # the site of mkdocs.yml, in site/; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

unit: .venv
	$(TESTS) tests/unit -q -m "not slow" $(SIDE_BY_SIDE)

integration: .venv
	$(TESTS) tests/integration -q -m "not slow and not gpu" $(SIDE_BY_SIDE)

e2e: .venv
	$(TESTS) tests/e2e -q -m "not slow and not gpu"

slow: .venv
	$(TESTS) tests -q -m "slow and not gpu" -o timeout=1800

peers: .peers/.complete # our losses and credits beside TRL's and verl's; prints the table of docs/peers.md
	PYTHONPATH=.peers timeout 1200 $(TESTS) tests/integration/peers -q -s

.venv: .venv/.complete

.venv/.complete: requirements/cpu.txt requirements/install.sh pyproject.toml
	@PYTHON=$(PYTHON) bash requirements/install.sh

.peers/.complete: requirements/peers.txt .venv/.complete
	rm -rf .peers
	timeout 600 $(BIN)/python -m pip install -q --no-deps --target .peers -r requirements/peers.txt
	touch $@

requirements: .venv # write requirements/cpu.txt anew from what .venv holds
	bash requirements/freeze.sh
