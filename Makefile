PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test bench study clean

demo: $(STAMP)  ## draw pictures with the shipped checkpoint: out/demo
	$(VENV)/bin/python scripts/demo.py

test: $(STAMP)  ## lint, format and all tests
	$(VENV)/bin/python -m pytest

bench: $(STAMP)  ## cost of an attachment, in ratios measured in one run: out/overhead.json
	$(VENV)/bin/python scripts/benchmark.py overhead --json out/overhead.json

study: $(STAMP)  ## measure every table in docs/results again (about four hours on two cores; resumes when killed)
	$(VENV)/bin/python scripts/study_raag.py
	$(VENV)/bin/python scripts/calibrate.py
	$(VENV)/bin/python scripts/study_elucd.py
	$(VENV)/bin/python scripts/study_diffier.py
	$(VENV)/bin/python scripts/tune_encoder.py
	$(VENV)/bin/python scripts/study_rigid.py
	$(VENV)/bin/python scripts/study_peers.py
	$(VENV)/bin/python scripts/tables.py

$(STAMP): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) out
