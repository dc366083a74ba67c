# A fresh machine needs Python 3.11 or newer and these commands.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# waiting threads sleep instead of spinning: tests and demo share few cores with others
RUN := OMP_WAIT_POLICY=passive $(BIN)/python

.PHONY: demo test test-slow torture lint bench clean

demo: $(VENV)/.installed  ## learn the embedded scenes for three rounds; prints where the report is
	$(RUN) -m alseg.run method=mulquery rounds=3 run_dir=runs/demo

test: $(VENV)/.installed  ## the default suite, two processes: a few minutes on 2 cores
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.installed  ## kill -9 and resume, several processes
	$(RUN) -m pytest -m slow

MINUTES ?= 30
torture: $(VENV)/.installed  ## kills, full disks and more processes, in all methods; writes docs/reliability.md
	$(RUN) -m tests.torture --minutes $(MINUTES)
	$(RUN) -m tests.torture --worlds

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed  ## side by side with the obvious way, as ratios
	$(RUN) -m benchmarks

$(VENV)/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev,notebooks,label]"
	# albumentations pulls opencv-python-headless, which writes the same cv2 without ximgproc
	$(BIN)/python -c "import cv2; cv2.ximgproc.createSuperpixelSEEDS" 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --force-reinstall --no-deps opencv-contrib-python-headless
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
