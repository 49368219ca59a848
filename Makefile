# Every target makes the environment it needs; `make demo` and `make test` start from a bare clone.

VENV := .venv
BIN := $(VENV)/bin
# Where the demo keeps its models, database and logs.
DATA_DIR ?= $(CURDIR)/.duovec
# `make demo CODE=path QUERY="words"`
CODE ?=
QUERY ?=

.PHONY: demo test check bench proto clean

demo: $(VENV)/installed
	@$(BIN)/duovec-export publish --pair compact --repository "$(DATA_DIR)/model_repository" --if-missing
	@$(BIN)/duovec demo $(if $(CODE),"$(CODE)") $(if $(QUERY),--query "$(QUERY)") --data-dir "$(DATA_DIR)"

test: check
	$(BIN)/pytest tests/integration tests/faults

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit tests/contract

bench: $(VENV)/installed
	@$(BIN)/duovec-export publish --pair compact --repository "$(DATA_DIR)/model_repository" --if-missing
	$(BIN)/python tests/benchmarks/service.py
	$(BIN)/python -P tests/benchmarks/throughput.py
	$(BIN)/python tests/benchmarks/interference.py
	$(BIN)/python tests/benchmarks/cache.py
	$(BIN)/python tests/benchmarks/search.py
	$(BIN)/python -m tests.benchmarks.peers
	$(BIN)/python -m tests.benchmarks.flops

proto: $(VENV)/installed
	$(BIN)/python protos/generate.py

# torch first and by its exact version: a range would pull the CUDA build.
$(VENV)/installed: pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip==26.3" "setuptools==82.0.1"
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .duovec
