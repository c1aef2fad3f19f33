# The two commands that a fresh machine needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test install check bench clean peers

demo: $(VENV)/.installed  ## run the whole loop on this machine
	$(BIN)/hepar demo

# In the order of their names: files of whole nodes, the slowest, come first and leave no long tail.
test: $(VENV)/.tested peers check  ## everything: lint, types, imports, tests, coverage
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

install: $(VENV)/.installed  ## the node into .venv, so that .venv/bin/hepar is the command

check: $(VENV)/.tested  ## lint, format, types, imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.tested  ## ratios against real alternatives, measured here
	$(BIN)/python -m benchmarks.backends
	$(BIN)/python -m benchmarks.cluster
	$(BIN)/python -m benchmarks.results

peers:  ## as root: the Debian programs that the tests talk to; else the tests say what they skip
	docker/install-test-peers

# torch comes from the CPU build: the default build brings gigabytes of CUDA libraries.
$(VENV)/.tested: pyproject.toml $(VENV)/.installed
	$(BIN)/pip install --quiet "torch==2.13.0"
	$(BIN)/pip install --quiet --editable ".[train,test]"
	touch $@

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable .
	touch $@

clean:  ## remove everything that was made here
	rm -rf $(VENV) hepar-demo hepar-data .mypy_cache .ruff_cache .pytest_cache
