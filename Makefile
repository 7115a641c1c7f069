# make demo   a tour on drawn data, up to a model    make test    lint, types, the site, every test, the smallest matrix
# make quick  the tests without the slow ones        make matrix  the tests at both ends of every dependency's bounds
# make clean  remove what these made                 make lock    write constraints.txt anew
# make docs   the site, into build/site              make layouts  all families in all layouts of devices

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= auto
EXTRAS := dev,docs,mindspore

.PHONY: demo test quick lint docs layouts matrix lock clean

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m examples.demo

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Where the tests of these marks are, as tests/test_marks.py holds: collecting all others takes ten seconds a process.
MINDSPORE := tests/models tests/recipes tests/pipeline tests/test_readme.py tests/test_wheel.py
ALONE     := tests/engine/test_ray.py tests/test_clean_machine.py

# MindSpore's graph engine takes real-time priority where it may; tests with deadlines do not run beside it.
# Of what comes first each part keeps one core at work: types, and the site.
test: $(VENV)/.installed
	$(MAKE) --jobs 2 --output-sync=target lint docs
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not mindspore and not alone"
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "mindspore and not alone" $(MINDSPORE)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m alone $(ALONE)
	$(BIN)/python .ci/matrix.py --smallest --jobs $(JOBS)

quick: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not alone"

# The site, into build/site; a warning is an error.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# All 432 cells, of which the tests run twelve; before a release, and after a change of what crosses between devices.
layouts: $(VENV)/.installed
	$(BIN)/python -m tests.recipes.grid

# The whole of it is for before a release: it takes as long as eight times the tests without MindSpore.
matrix: $(VENV)/.installed
	$(BIN)/python .ci/matrix.py --jobs $(JOBS)

# For Linux with Python 3.10 to 3.12, where MindSpore runs; what a CUDA build of torch brings along is its own affair.
lock: $(VENV)/.installed
	$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.10 --extra dev --extra docs \
	    --extra mindspore --extra bench --no-annotate --no-header --strip-extras --output-file constraints.txt
	sed -i -E '/^(nvidia-|cuda-|triton==)/d' constraints.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
