# Every target makes its own virtual environment; it is reinstalled only when the lock changed.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export CHURN_HOME ?= $(CURDIR)/.churn
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install run test lint bench prove clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
