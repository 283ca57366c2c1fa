# make run     the first backtest, on the bundled SYNTHETIC sample
# make test    the fast tests, one process per core, a few minutes
# make check   ruff and mypy
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = .venv/bin
SECONDS ?= 0

.PHONY: run test test-browser test-slow check audit fuzz torture install install-test checkpoints cards readme clean always

run: install
	$(BIN)/flagbt run --strategy flagtrader --ckpt Jan4

install: .venv/installed
install-test: .venv/installed-test

.venv/installed: setup.cfg pyproject.toml constraints.txt .venv/files
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# The editable install links each file, so that type checkers find the package: a new file needs a new install.
.venv/files: always
	@mkdir -p .venv
	@find . \( -name '*.py' -o -name '*.jinja' \) -not -path './.*' -not -path './build/*' -not -path './tests/*' | sort > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,fetch]'
	touch $@

test: install-test
	$(BIN)/python -m pytest tests -n auto --dist loadfile

# The pages in a real browser; needs Debian's chromium. Screenshots: artifacts/browser
test-browser: install-test
	$(BIN)/python -m pytest tests -m browser -rs

# Everything else. SECONDS=600 starts no further test after ten minutes; 0 runs them all.
test-slow: install-test
	FLAGBT_TEST_SECONDS=$(SECONDS) $(BIN)/python -m pytest tests -m "slow or gpu"

# Hostile bytes for every reader of bars, guided by coverage; RUNS is the number of inputs for each file ending.
RUNS ?= 20000
fuzz: install-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python tests/system/fuzz_readers.py --runs $(RUNS)

# kill -9 at random moments over run, train, sweep and fetch; then full disks, SIGTERM and other faults; then many at once.
KILLS ?= 200
SEED ?= 1
torture: install-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fetch]'
	$(BIN)/python tests/system/torture.py --kills $(KILLS) --seed $(SEED) --faults --together

check: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python benchmarks/structure.py
	$(BIN)/mypy --config-file setup.cfg -p flagbt

# Known vulnerabilities of the pinned versions; where there is no network, it prints why it is skipped.
audit: install-test
	.ci/audit

# DATA: Binance spot BTC/USDT, 1 hour, from 2020 on
checkpoints: install-test
	$(BIN)/python benchmarks/bundled_checkpoints.py --data $(DATA)

# Only the cards: the scores of the existing checkpoints on 2024, and the doctor's verdict. This looks at 2024: log it.
cards: install-test
	$(BIN)/python benchmarks/bundled_checkpoints.py --data $(DATA) --cards-only

# The table of bundled checkpoints in docs/checkpoints.md, and the README's picture (needs chromium).
readme: install-test
	$(BIN)/python benchmarks/readme.py

clean:
	rm -rf .venv build dist flagbt.egg-info
