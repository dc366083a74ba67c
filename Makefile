# A fresh machine needs Python 3.11 or newer and these commands.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MINUTES ?= 30
# waiting threads sleep instead of spinning: tests and demo share few cores with others
RUN := OMP_WAIT_POLICY=passive $(BIN)/python

# a method, random at the same clicks, and full supervision
DEMO := pixelpick random supervised

.PHONY: demo $(DEMO:%=demo-%) test test-slow lint docs bench torture clean

demo: $(VENV)/.installed  ## learn the embedded scenes, two runs at a time; prints where the page is
	$(MAKE) --no-print-directory --jobs 2 $(DEMO:%=demo-%)
	$(RUN) -m alseg.compare $(DEMO:%=runs/demo/%) out=runs/demo/comparison

$(DEMO:%=demo-%): demo-%: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(RUN) -m alseg.run preset=demo/$* run_dir=runs/demo/$* \
		workers=0 trainer.enable_progress_bar=false

test: $(VENV)/.installed  ## the default suite, two processes: a few minutes on 2 cores
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.installed  ## kill -9 and resume, several processes
	$(RUN) -m pytest -m slow

torture: $(VENV)/.installed  ## kills, full disks and more processes, in all methods; writes docs/reliability.md
	$(RUN) -m tests.torture --minutes $(MINUTES)
	$(RUN) -m tests.torture --worlds

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## the site, in docs/_build/html; warnings are errors
	$(RUN) -m sphinx -q -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.installed  ## side by side with the obvious way, as ratios
	$(RUN) -m benchmarks

$(VENV)/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev,notebooks,label,cluster,compare,docs,export,geo,weights]"
	# albumentations pulls opencv-python-headless, which writes the same cv2 without ximgproc, and
	# wins where it is installed later than contrib: see docs/install.md
	$(BIN)/python -c "import cv2; cv2.ximgproc.createSuperpixelSEEDS" 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --force-reinstall --no-deps opencv-contrib-python-headless
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
