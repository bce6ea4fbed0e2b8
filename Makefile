# Every target makes its own virtual environment; packages are reinstalled only when the lock changed.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export CHURN_HOME ?= $(CURDIR)/.churn
CHURN_RAW_DIR ?= $(CHURN_HOME)/raw
SIMULATED := $(CHURN_HOME)/simulated
# keep dbt, Feast and MLflow from calling home
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export FEAST_USAGE := false
export MLFLOW_DISABLE_TELEMETRY := true

# the as-of date and the riskiest customer of what was published last
SCORES = read_parquet('$(CHURN_HOME)/published/churn_scores.parquet')
NEWEST = $(BIN)/python -c "import duckdb; print(*duckdb.sql(\"\"\"select strftime(as_of_date, '%Y-%m-%dT00:00:00'), \
	customer_id from $(SCORES) order by as_of_date desc, churn_probability desc, customer_id limit 1\"\"\").fetchone())"

.PHONY: help install run run-simulated test prove bench bench-quick lint format audit clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## Make the virtual environment.

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

run: install $(CHURN_RAW_DIR)/orders.parquet ## Real purchases to churn_scores and an online lookup.
	$(BIN)/dbt build
	$(BIN)/feast -c feature_repo apply
	read -r as_of customer < <($(NEWEST)); \
	$(BIN)/feast -c feature_repo materialize "$$as_of" "$$as_of"; \
	$(BIN)/churn-radar report --top 20 --no-compare; \
	$(BIN)/churn-radar explain "$$customer"

run-simulated: install ## The same on a simulated shop with reviews, tickets, visits and campaigns.
	test -e "$(SIMULATED)/raw/orders.parquet" || \
	CHURN_HOME="$(SIMULATED)" CHURN_RAW_DIR="$(SIMULATED)/raw" $(BIN)/churn-radar simulate
	$(MAKE) --no-print-directory run CHURN_HOME="$(SIMULATED)" CHURN_RAW_DIR="$(SIMULATED)/raw"

$(CHURN_RAW_DIR)/orders.parquet: | install
	$(BIN)/churn-radar load-example complete-journey

test: install ## Run every test, one end-to-end run on real data included.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

prove: install ## Slow proofs: builds and the service killed at random moments, many random shops, retraining.
	$(BIN)/python -m pytest tests/prove -v
	CHURN_EXAMPLES=40 CHURN_SHOPS=200 $(BIN)/python -m pytest tests/integration/test_incremental.py -v -k 'any_order or random_shops'
	CHURN_CUSTOMERS=3500 $(BIN)/python -m pytest tests/integration/test_online_scores.py -v -s

bench: install ## Measure everything, which takes hours; speed is drawn in docs/benchmarks.md.
	export PYTHONPATH=$(CURDIR); \
	for script in encoding sizing scoring sql materialise stages daily churnkit level members recommendations fine_tuning words serving rescoring hostile; do \
		$(BIN)/python benchmarks/$$script.py; \
	done
	$(BIN)/python benchmarks/suite.py

bench-quick: install ## Measure speed on small data, in minutes; nothing is kept.
	$(BIN)/python benchmarks/encoding.py --texts 400 --runs 1 --forget
	$(BIN)/python benchmarks/sql.py --customers 10000 --runs 1 --forget
	$(BIN)/python benchmarks/scoring.py --customers 700 --runs 1 --forget
	$(BIN)/python benchmarks/materialise.py --customers 200 --runs 1 --forget

lint: install ## Check Python and SQL.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --disable-progress-bar models

format: install ## Rewrite Python and SQL in the project's style.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/sqlfluff fix --disable-progress-bar models

audit: install ## Known vulnerabilities, licences and an SBOM (CycloneDX) of all locked packages, in build/.
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit cyclonedx-bom pip-licenses
	build/audit/bin/cyclonedx-py environment $(BIN)/python --output-reproducible --output-file build/sbom.json
	build/audit/bin/pip-licenses --python=$(BIN)/python --from=mixed --order=license --output-file build/licences.txt
	build/audit/bin/pip-licenses --python=$(BIN)/python --from=mixed --summary --order=count
	# a package that the database does not know, or cannot be asked about, is listed with the reason
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

clean: ## Delete what was built; state in CHURN_HOME stays.
	rm -rf target logs build $(VENV) *.egg-info
