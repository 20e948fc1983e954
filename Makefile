# Every target uses one virtual environment and one constraints.txt, so CI runs what you run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KILLING := test_chaos test_recovery test_storage_faults

.PHONY: demo web test test-fast test-system coverage check check-style check-types check-imports check-docs check-deploy docs bench profile \
	chaos fuzz quality train clean

demo: $(VENV)/.installed
	$(BIN)/diffedit demo

# The web page and the HTTP API on this machine, with services and a worker, until Ctrl-C.
web: $(VENV)/.installed
	$(BIN)/diffedit up --web

test: test-fast
	# The acceptance tests start first, since they take longest; the integration tests fill the time that is left. On two
	# cores three processes are faster than two: these tests wait for half of the time, mostly until a heartbeat expires.
	$(BIN)/pytest tests/acceptance tests/integration --numprocesses 3 --dist loadfile --no-loadscope-reorder

# Over programs of Debian's packages, which CI installs: apt-get install --no-install-recommends redis-server redis-sentinel prometheus nodejs npm chromium
test-system: $(VENV)/.installed $(VENV)/examples/.installed
	$(BIN)/pytest tests/system --numprocesses 2 --dist loadfile

# What to run before each commit: no services, under a minute.
test-fast: check
	$(BIN)/pytest tests/unit --numprocesses 2 --dist loadfile

# Measures the processes that tests start, too. Left out are tests that kill processes, which then write no data.
coverage: $(VENV)/.installed
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/acceptance tests/integration tests/unit --numprocesses 2 --dist loadfile \
		--no-loadscope-reorder $(KILLING:%=--ignore tests/acceptance/%.py)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report

check: $(VENV)/.installed
	$(MAKE) --no-print-directory --jobs 2 check-style check-types check-docs check-imports check-deploy

check-style: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: $(VENV)/.installed
	$(BIN)/mypy

check-imports: $(VENV)/.installed
	$(BIN)/lint-imports

check-docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# The form of the files in deploy/ and docker/. Prometheus' own checks need Debian's package: make test-system.
check-deploy: $(VENV)/.installed
	$(BIN)/python -m deploy.check

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo 'To read it: $(BIN)/python -m http.server --directory site --bind 127.0.0.1 8000'

profile: $(VENV)/.installed
	$(BIN)/python -m benchmarks.speed.time_breakdown

chaos: $(VENV)/.installed
	$(BIN)/python -m benchmarks.chaos

# Ten minutes, for every night. The tests run half a minute of it.
fuzz: $(VENV)/.installed
	$(BIN)/python -m benchmarks.fuzz

# These three targets draw pictures and need the system's emoji font: apt-get install fonts-noto-color-emoji
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

quality: $(VENV)/.installed
	$(BIN)/python -m benchmarks.quality

train: $(VENV)/.installed
	$(BIN)/python -m training

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[worker,local,web,metrics,otel,parquet,train,docs,dev]'
	touch $@

# Airflow and other programs that call ours have an environment of their own, as their users have.
$(VENV)/examples/.installed: pyproject.toml tests/system/examples.txt
	$(PYTHON) -m venv $(VENV)/examples
	$(VENV)/examples/bin/pip install --quiet --disable-pip-version-check --requirement tests/system/examples.txt --editable .
	touch $@

clean:
	rm -rf $(VENV) .diffedit out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage* htmlcov site
