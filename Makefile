# Two commands on a bare Debian or Ubuntu with Python 3.11 or later:
#   make run     set everything up and open napari with the plugin and the sample CT
#   make test    set everything up and run the tests
.PHONY: run test lint types test-library test-window-pyqt5 test-window-pyqt6 clean
.DEFAULT_GOAL := run
SHELL := /bin/bash

VENV ?= .venv
BIN := $(VENV)/bin
SET_UP := setup.cfg pyproject.toml scripts/set-up scripts/system-packages.txt
PYTEST := $(BIN)/python -m pytest
XVFB := xvfb-run -a -s "-screen 0 1600x1000x24"

$(VENV)/.installed-run: $(SET_UP)
	@scripts/set-up $(VENV) all
	@touch $@

$(VENV)/.installed-test: $(SET_UP)
	@scripts/set-up $(VENV) test
	@touch $@ $(VENV)/.installed-run

run: $(VENV)/.installed-run
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ] || [ "$$(uname)" = Darwin ]; then \
		QT_API=pyqt5 $(BIN)/python -m napari_vqseg; \
	else \
		echo "There is no display here: running the same loop unattended (vqseg demo)."; \
		QT_API=pyqt5 $(BIN)/vqseg demo --output demo; \
	fi

test: lint types test-library test-window-pyqt5 test-window-pyqt6

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

# One thread each: torch's threads wait for each other by spinning, which two workers would pay for.
test-library: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 -m "not window"

# Plugins of pytest and napari choose their binding by these variables, before any test runs.
test-window-pyqt5 test-window-pyqt6: test-window-%: $(VENV)/.installed-test
	QT_API=$* PYTEST_QT_API=$* $(XVFB) $(PYTEST) -m window

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demo
