# Everything goes through one virtual environment and one constraints.txt: what CI runs is what you run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check docs bench profile chaos quality train clean

demo: $(VENV)/.installed
	$(BIN)/diffedit demo

test: check
	$(BIN)/pytest tests/unit --numprocesses 2 --dist loadfile
	# The long files first, the short ones fill up.
	$(BIN)/pytest tests/acceptance tests/integration --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo 'To read it: $(BIN)/python -m http.server --directory site --bind 127.0.0.1 8000'

profile: $(VENV)/.installed
	$(BIN)/python -m benchmarks.speed.time_breakdown

chaos: $(VENV)/.installed
	$(BIN)/python -m benchmarks.chaos

# These three draw pictures, and so need the system's emoji font: apt-get install fonts-noto-color-emoji
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

quality: $(VENV)/.installed
	$(BIN)/python -m benchmarks.quality

train: $(VENV)/.installed
	$(BIN)/python -m training

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[worker,local,train,docs,dev]'
	touch $@

clean:
	rm -rf $(VENV) .diffedit out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache site
