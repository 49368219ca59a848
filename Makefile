# Every target makes the environment it needs; `make demo` and `make test` start from a bare clone.

VENV := .venv
BIN := $(VENV)/bin
# Where the demo keeps its models, database and logs.
DATA_DIR ?= $(CURDIR)/.duovec
# `make demo CODE=path QUERY="words"`
CODE ?=
QUERY ?=

# `make docs DOCS=serve`
DOCS ?= build --strict

# `make sbom SBOM_DIR=path SBOM=gateway`
SBOM_DIR ?= build/sbom
SBOM ?= gateway training

.PHONY: demo test lint check training gateway unit faults store local export batch browser bench docs soak proto lock \
	audit sbom clean

demo: $(VENV)/installed
	@$(BIN)/duovec-export publish --pair compact --repository "$(DATA_DIR)/model_repository" --if-missing
	@$(BIN)/duovec demo $(if $(CODE),"$(CODE)") $(if $(QUERY),--query "$(QUERY)") --data-dir "$(DATA_DIR)"

# Each a process of pytest with a stack of its own, two at a time, the longest first; it prints when it is through.
SUITES := training gateway unit faults store local export batch

test: lint
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(SUITES)
# What bounds times or floods the encoders. By itself, for some fork, which a process does not survive that has Arrow in it.
	$(BIN)/pytest tests/faults -m alone

$(SUITES): $(VENV)/installed

unit:
	$(BIN)/pytest tests/unit tests/contract

# Within the recipe: what has prerequisites of its own comes last, and this takes long.
gateway:
	@$(MAKE) --no-print-directory browser
	$(BIN)/pytest tests/integration/gateway tests/integration/console

training local store export batch:
	$(BIN)/pytest tests/integration/$@

faults:
	$(BIN)/pytest tests/faults -m "not alone"

# Of the console's tests; in no registry of Python's or JavaScript's.
browser:
	@command -v chromium >/dev/null || { apt-get update --quiet \
		&& apt-get install --yes --quiet --no-install-recommends chromium; } \
		|| { echo "error: the console's tests need Chromium; install Debian's package chromium, as root" >&2; exit 1; }

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/pytest tests/unit tests/contract

bench: $(VENV)/installed
	@$(BIN)/duovec-export publish --pair compact --repository "$(DATA_DIR)/model_repository" --if-missing
	$(BIN)/python -m tests.benchmarks.service
	$(BIN)/python -m tests.benchmarks.throughput
	$(BIN)/python -m tests.benchmarks.growth
	$(BIN)/python -m tests.benchmarks.interference
	$(BIN)/python -m tests.benchmarks.cache
	$(BIN)/python -m tests.benchmarks.observation
	$(BIN)/python -m tests.benchmarks.search
	$(BIN)/python -m tests.benchmarks.permissions
	$(BIN)/python -m tests.benchmarks.search_log
	$(BIN)/python -m tests.benchmarks.storage
	$(BIN)/python -m tests.benchmarks.peers
	$(BIN)/python -m tests.benchmarks.flops

# The documentation site, into build/site; `DOCS="serve --livereload"` shows it while one writes.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(DOCS)

# Hours: parts killed at random moments, overload, leaks and fuzzing in their long forms. SEED=… repeats a run.
soak: $(VENV)/installed
	$(BIN)/pytest tests/faults tests/integration/batch -m soak --soak --timeout=0 --soak-report "$(DATA_DIR)/soak.json" \
		$(if $(SEED),--soak-seed=$(SEED) --hypothesis-seed=$(SEED)) $(if $(KILLS),--soak-kills=$(KILLS))

proto: $(VENV)/installed
	$(BIN)/python protos/generate.py

# The versions and hashes of every extra; `TORCH_WHEELS=folder make lock`, LOCK="--upgrade" for newer versions.
lock: $(VENV)/installed
	requirements/lock.sh $(LOCK)

# Known vulnerabilities of what is locked. Strict, for a package that could not be asked for would pass as sound.
audit: $(VENV)/installed
	cat requirements/dev.txt requirements/torch-cuda.txt | grep -v "^#" | awk '/^[a-z]/ {known = seen[$$1]++} !known' \
		> $(VENV)/audited.txt
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement $(VENV)/audited.txt

# What the images are made of, in CycloneDX; of a GPU's trainer torch-cuda.txt besides.
sbom: $(VENV)/installed
	mkdir -p "$(SBOM_DIR)"
	for part in $(SBOM); do \
		$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --no-validate \
			--spec-version 1.6 --output-file "$(SBOM_DIR)/$$part.cdx.json" requirements/$$part.txt || exit 1; \
	done

# torch first, as this machine has it, for CPUs or CUDA; then exactly what is locked. A module is compiled when it is first
# imported: most of 27,000 never are, and all of them took longer than anything else here. And it is kept compiled,
# whatever the environment says: torch alone would be compiled by each of hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := $(BIN)/pip install --quiet --no-compile

$(VENV)/installed: pyproject.toml requirements/dev.txt
	python3 -m venv $(VENV)
	$(PIP_INSTALL) --upgrade "pip==26.3" "setuptools==82.0.1"
	$(PIP_INSTALL) torch==2.13.0
	$(PIP_INSTALL) --require-hashes --requirement requirements/dev.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) .duovec
