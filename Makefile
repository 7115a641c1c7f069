# make demo   a tour on drawn data, up to a model    make test   lint, types, the site, every test
# make quick  the tests without the slow ones       make clean  remove what these made
# make docs   the site, into build/site

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= auto

.PHONY: demo test quick lint docs clean

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs,mindspore]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m examples.demo

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# MindSpore's graph engine takes real-time priority where it may; tests with deadlines do not run beside it.
test: lint docs
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not mindspore and not alone"
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "mindspore and not alone"
	$(BIN)/python -m pytest -m alone

quick: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not alone"

# The site, into build/site; a warning is an error.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
