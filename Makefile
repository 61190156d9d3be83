# Two commands do everything on a machine with Python 3.11 or later and make: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Whatever is linted and typed, and nothing that a user's folder may hold beside it.
SOURCES := lpqld sweeps cli tests benchmarks docs
# Tests start many processes, which need not compile what one of them has.
unexport PYTHONDONTWRITEBYTECODE
# Processes of tests at once.
JOBS ?= 2

.PHONY: demo check test lint test-slow fuzz bench clean

demo: .venv/installed
	$(BIN)/lpqld sweep digits

# Linters, types and unit tests: no Ray, no sweep. Under two minutes on two cores.
check: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -q -m "not slow and not integration" \
	  $(addprefix --ignore=tests/,benchmarks docs scenarios sweeps/tracking)

# A file of tests is one process's, so that its tests share what is costly to make; long files do not come last.
test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Minutes long: larger sweeps on the data that `make test` only touches.
test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow

lint: .venv/installed
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

# Coverage-guided fuzzing of what reads a label set's bytes; needs the fuzz extra, which has wheels for Linux.
SECONDS ?= 300
fuzz: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	for target in payload manifest table batch; do \
	  PYTHONPATH=. $(BIN)/python tests/format/fuzz_decoder.py $$target build/fuzz/$$target \
	    -max_total_time=$(SECONDS) -max_len=6000 -artifact_prefix=build/fuzz/ || exit 1; \
	done

# Seconds of the demo by phase, its memory, and the ratios that the README states.
bench: .venv/installed
	$(BIN)/python benchmarks/demo.py

.venv/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'lpqld needs Python 3.11 or later; try make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
