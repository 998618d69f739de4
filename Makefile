# Either command creates .venv and installs into it when that is needed.
#   make quickstart   the whole system on generated images, 15 minutes or less on 2 cores
#   make test         format, lint, types and tests, 15 minutes or less on 2 cores
#   make faults       kills, full disks and damaged files, two hours or more (FORM=short: 20 minutes)
#   make two-workers  two processes train together, lose one, go on; minutes
#   make docs-check   runs the commands of the documents
#   make report-check DATA=tiny-imagenet-100   also the report of a run on photographs

PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: quickstart test lint unit format faults two-workers docs-check report-check

quickstart: .venv/installed
	bash tools/quickstart.sh $(BIN)/python

two-workers: .venv/installed
	$(BIN)/python -m tools.faults.two_workers

test: lint unit

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two processes of one thread each: most of a test is TensorFlow building a graph, which is serial.
unit: .venv/installed-dev
	TF_NUM_INTRAOP_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	    $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

FORM ?= long

faults: .venv/installed-dev
	$(BIN)/python tools/faults.py --form=$(FORM) --output=faults.json

docs-check: .venv/installed-docs
	$(BIN)/python -m tools.docs.check --run

report-check: .venv/installed-dev
	MGTA_TINY_IMAGENET=$(DATA) $(BIN)/python -m pytest tests/test_report.py

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python requirements.txt constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

.venv/installed-docs: .venv/installed-dev requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@
