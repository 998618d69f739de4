# Either command creates the environment VENV and installs into it when that is needed, with the
# newest Python from 3.9 to 3.13 that it finds, or with PYTHON=3.11, PYTHON=/path/to/python.
#   make quickstart   four encoders of handwritten digits, compared; minutes on 2 cores
#   make venv         the environment alone
#   make test         format, lint, types and tests, 15 minutes or less on 2 cores
#   make faults       kills, full disks and damaged files, two hours or more (FORM=short: 20 minutes;
#                     ONLY=mixed_folder: a folder of 10,000 files of every kind, a minute)
#   make two-workers  two processes train together, one is killed, both resume; minutes
#   make docs-check   runs the commands of the documents
#   make report-check DATA=tiny-imagenet-100   also the report of a run on photographs

VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: venv quickstart test lint unit format faults two-workers docs-check report-check

venv: $(VENV)/installed

quickstart: $(VENV)/installed
	$(BIN)/python -m tools.quickstart.run

two-workers: $(VENV)/installed
	$(BIN)/python -m tools.faults.two_workers

test: lint unit

# Types are checked for the oldest Python that has the environment's TensorFlow; for older ones its
# NumPy has no types.
OLDEST = $$($(BIN)/python -c 'import sys; print("3.9" if sys.version_info < (3, 12) else "3.12")')

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --python-version=$(OLDEST)

# Two processes of one thread each: most of a test is TensorFlow building a graph, which is serial.
unit: $(VENV)/installed-dev
	TF_NUM_INTRAOP_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	    $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

FORM ?= long

faults: $(VENV)/installed-dev
	$(BIN)/python tools/faults.py --form=$(FORM) --only=$(ONLY) --output=faults.json

docs-check: $(VENV)/installed-docs
	$(BIN)/python -m tools.docs.check --run

report-check: $(VENV)/installed-dev
	MGTA_TINY_IMAGENET=$(DATA) $(BIN)/python -m pytest tests/test_report.py

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	python=$$(bash tools/find_python.sh $(PYTHON)) && "$$python" -m venv $(VENV)

$(VENV)/installed: $(BIN)/python requirements.txt constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/installed-docs: $(VENV)/installed-dev requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@
