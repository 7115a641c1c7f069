# make demo   a tour on drawn data, up to a model    make test   lint, types and every test
# make quick  the tests without the slow ones       make clean  remove what these made

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= auto

.PHONY: demo test quick lint clean

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,mindspore]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m examples.demo

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# MindSpore's graph engine takes real-time priority where it may; tests with deadlines do not run beside it.
test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not mindspore and not alone"
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "mindspore and not alone"
	$(BIN)/python -m pytest -m alone

quick: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not alone"

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
