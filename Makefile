PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test docs bench study benchmarks clean

demo: $(STAMP)  ## draw with the shipped checkpoints: out/demo
	$(VENV)/bin/diffusion-guidance demo

test: $(STAMP)  ## lint, format and all tests, in two processes of one thread each
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2

docs: $(STAMP)  ## build the site, strictly and offline: site/index.html
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

bench: $(STAMP)  ## cost of an attachment, in ratios measured in one run: out/overhead.json
	$(VENV)/bin/python -m scripts.benchmarks overhead --json out/overhead.json

study: $(STAMP)  ## measure every table in docs/results again (about four hours on two cores; resumes when killed)
	$(VENV)/bin/python -m scripts.studies

benchmarks: $(STAMP)  ## time every benchmark in docs/results again, on a quiet machine
	$(VENV)/bin/python -m scripts.studies --benchmarks

$(STAMP): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) out site
