# make demo   install what is missing, then the whole path on synthetic chests, in about three minutes
# make test   install what is missing, then the quick tests
# make check  lint, types, layering and all tests (what .ci/run runs)
# make bench  the short benchmarks
# make clean  remove the environment, caches and the demo
#
# TORCH chooses the build of torch. The default is a CPU build where the registry offers one for this version; with a
# GPU: make demo TORCH="torch>=2.6"
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A process a core, each with one thread and whole files, so that what a file's tests share is made once.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

.PHONY: demo test check bench clean install

demo: $(STAMP)
	rm -rf demo
	$(BIN)/groundglass demo -o demo

test: $(STAMP)
	$(TESTS) -m "not slow and not realdata"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(TESTS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.submission
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.twins --data phantom:20 --planted 10 --sizes 300,1000
	$(BIN)/python -m benchmarks.modality
	$(BIN)/python -m benchmarks.loading
	$(BIN)/python -m benchmarks.prediction
	$(BIN)/python -m benchmarks.region_pooling
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.networks --quick

install: $(STAMP)

# torch comes first and is then held by a constraints file: an unpinned torchvision would replace a CPU build of torch
# by one with gigabytes of CUDA libraries.
$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "groundglass needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -c 'from importlib.metadata import version as v; print("torch==" + v("torch").split("+")[0])' > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable ".[train,weights,dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
