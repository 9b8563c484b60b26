# Each target makes .venv if it is missing, builds what changed, and reuses it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard cert_core/native/*.pyx cert_core/native/*.h) cert_core/native/CMakeLists.txt
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
# A worker a core, each with one thread for arithmetic: half the time on two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-all bench docs lint mutants mutants-tool clean
.DELETE_ON_ERROR:

demo: $(VENV)/.models
	$(BIN)/cert demo

# All tests but those marked slow.
test: $(VENV)/.test
	$(PYTEST) -m "not slow"

# Those as well, half an hour on two cores.
test-all: test $(VENV)/.engines
	$(PYTEST) -m slow

# Ends with a table a subject, in docs/benchmarks.md too.
bench: $(VENV)/.bench
	$(BIN)/python -m pytest -q bench --benchmark-only --benchmark-disable-gc --benchmark-json=$(VENV)/bench.json
	$(BIN)/python bench/tables.py $(VENV)/bench.json | tee docs/benchmarks.md

# Pages into build/docs; a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

lint: $(VENV)/.dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pre-commit run --all-files

# Slips put into copies of the tree, two at a time (hours; goes on where it was stopped), and the
# changes that cosmic-ray makes (days).  What they found stands in docs/mutants.md.
mutants: $(VENV)/.mutants
	PYTHONPATH=tests $(BIN)/python -m mutants

mutants-tool: $(VENV)/.mutants
	PYTHONPATH=tests $(BIN)/python -m mutants.tool

clean:
	rm -rf $(VENV) build dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The compiler of GPU kernels, for the tests that need it and no GPU: nothing of ours to build.
$(VENV)/.nvrtc: $(BIN)/python constraints.txt
	$(PIP) nvidia-cuda-nvrtc-cu12
	touch $@

# Engines, for slow tests alone (half a minute, 280 MB).
$(VENV)/.engines: $(BIN)/python constraints.txt
	$(PIP) ray distributed
	touch $@

# An editable install, made again whenever the extras or the native sources change.
$(VENV)/.%: $(BIN)/python pyproject.toml constraints.txt $(NATIVE)
	$(PIP) -e ".[$*]"
	touch $@
