# make demo       a tour on drawn data, up to a model  make test-slow        the tests that `make test` leaves out
# make test       lint, types, the site, the tests     make matrix-smallest  some at the ends of the bounds, as CI does
# make docs       the site, into build/site            make matrix           the tests at both ends of every bound
# make lock       write constraints.txt anew           make layouts          all families in all layouts of devices
# make clean      remove what these made

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= auto
EXTRAS := dev,docs,mindspore
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: demo test test-slow lint docs layouts matrix matrix-smallest lock clean

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

# What there is time for while one works. MindSpore's graph engine takes real-time priority where it may; tests with
# deadlines do not run beside it. Of what comes first each part keeps one core at work: types, and the site.
test: $(VENV)/.installed
	$(MAKE) --jobs 2 --output-sync=target lint docs
	$(PYTEST) -m "not slow and not mindspore and not alone"
	$(PYTEST) -m "mindspore and not slow and not alone" $(MINDSPORE)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m alone $(ALONE)

# The rest of the tests: CI runs these too, and the smallest part of the matrix.
test-slow: $(VENV)/.installed
	$(PYTEST) -m "slow and not mindspore and not alone"
	$(PYTEST) -m "mindspore and slow and not alone" $(MINDSPORE)

# The site, into build/site; a warning is an error.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# All 432 cells, of which the tests run twelve; before a release, and after a change of what crosses between devices.
layouts: $(VENV)/.installed
	$(BIN)/python -m tests.recipes.grid

# What CI runs of the matrix: the lowest releases on the oldest Python, and the newest on the newest.
matrix-smallest: $(VENV)/.installed
	$(BIN)/python .ci/matrix.py --smallest --jobs $(JOBS)

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
