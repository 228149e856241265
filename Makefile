# All that there is to run. `make` alone lists it.
#
# PYTHON=      the Python 3.11 or newer that .venv is made with
# PROFILE=     smoke, demo (default), gpu, full, or the path of a YAML file
# DATA_ROOT=   folder with your own copies of the real data sets: <data root>/raw/<data set>/
# CORES=       CPU cores to use (default: all)
# ONLY=        jobs to do, with what they need, such as "multi_adds transfer_esc50" (default: all)
# ALLOW_MISSING=1  go on without clips that a metadata file names but that are not there

PYTHON ?= python3
PROFILE ?= demo
DATA_ROOT ?=
CORES ?=
ALLOW_MISSING ?=
ONLY ?=

BIN := .venv/bin
STAMP := .venv/.complete
STRIP := --extra-keys "metadata.papermill cell.metadata.papermill metadata.widgets"
OPTIONS = --profile "$(PROFILE)" $(if $(DATA_ROOT),--data-root "$(DATA_ROOT)") $(if $(CORES),--cores "$(CORES)") \
	$(if $(filter-out 0 no false,$(ALLOW_MISSING)),--allow-missing) $(foreach job,$(ONLY),--only $(job))

# sounds that are uploaded to the explorer's notebook may have 200 MB; a server's own limit is 10 MB
UPLOADS := --ServerApp.tornado_settings='{"websocket_max_message_size": 209715200}'

.DEFAULT_GOAL := help
.PHONY: help env reproduce test benchmark lint strip lab clean

help: ## list these targets
	@echo "make TARGET [PROFILE=smoke|demo|gpu|full|path.yaml] [DATA_ROOT=folder] [CORES=n]"
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## set up .venv from the pinned constraints

reproduce: $(STAMP) ## regenerate every table and figure into figures/<profile>/
	@$(BIN)/panns reproduce $(OPTIONS)

test: $(STAMP) ## every test, and every notebook in the smoke size
	@$(BIN)/pytest

benchmark: $(STAMP) ## measure speed on this machine into benchmarks/results/ (an hour)
	@for script in front_end data inference training_step; do $(BIN)/python benchmarks/$$script.py || exit 1; done

lint: $(STAMP) ## check code and notebooks: ruff, and no outputs in notebooks
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/nbstripout --verify $(STRIP) notebooks/*.ipynb

strip: $(STAMP) ## remove the outputs of the notebooks, and tidy code and notebooks
	@$(BIN)/nbstripout $(STRIP) notebooks/*.ipynb && $(BIN)/ruff check --fix . && $(BIN)/ruff format .

lab: $(STAMP) ## open JupyterLab on the notebooks
	@$(BIN)/jupyter lab --notebook-dir=notebooks $(UPLOADS) $(if $(filter 0,$(shell id -u)),--allow-root)

clean: ## remove what these commands made, and nothing else
	@$(PYTHON) tools/clean.py

# The stamp is the last thing written: an interrupted installation is gone on with. pip finds the CPU or the GPU build
# of torch that its configuration leads to.
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $$($(PYTHON) --version 2>&1) is too old or missing; give Python 3.11 or newer as PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "Setting up .venv (some minutes, once)"
	@$(PYTHON) -m venv .venv || { echo "make: python can't make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@touch .venv/.made-by-make
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebooks,fast,imagenet,dev]'
	@touch $@
