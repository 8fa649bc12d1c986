# The main targets are `make demo`, `make test` and `make docs`. Each creates the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# The demonstration writes everything under demo-out.
DEMO_ENV = PANELWORKS_CACHE_DIR=demo-out/.cache PREFECT_HOME=$(CURDIR)/demo-out/.prefect \
	PREFECT_LOGGING_LEVEL=WARNING PREFECT_SERVER_LOGGING_LEVEL=CRITICAL LOG_LEVEL=WARNING
# Groups of tests that run side by side and take about as long as each other; `tests-rest` runs what no other group names.
GATEWAY = tests/orchestration tests/service/gateway tests/training
SERVICE = tests/service --ignore=tests/service/gateway --ignore=tests/service/studio
PAGES = tests/panelworks/archives tests/panelworks/books tests/panelworks/cli tests/panelworks/page tests/panelworks/video
GROUPS = tests-gateway tests-service tests-pages tests-rest
# Whole stacks, workers with their runs, and the studio in a browser: as long as all other tests together, and after them in CI.
LIVE = tests/live
WORKERS = tests/deployments tests/flows
BROWSER = tests/service/studio
# What operators do seldom and CI at the end.
CONTAINERS = tests/containers
RECOVERY = tests/recovery
IN_PARALLEL = $(MAKE) --no-print-directory --jobs 6 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: demo test stacks lint types tests tests-live tests-workers tests-browser tests-gateway tests-service tests-pages tests-rest \
	recovery containers coverage servers docs clean

demo: $(VENV)/installed
	@mkdir -p demo-out/.prefect
	@$(DEMO_ENV) $(BIN)/panelworks demo --out demo-out

# Types are checked beside the tests: alone, mypy would leave the other core idle.
test: lint $(VENV)/installed-dev servers
	@$(IN_PARALLEL) types $(GROUPS)

stacks: $(VENV)/installed-dev servers
	@$(IN_PARALLEL) tests-live tests-workers tests-browser

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint deployments/Dockerfile

types: $(VENV)/installed-dev
	$(BIN)/mypy

tests: $(VENV)/installed-dev servers
	@$(IN_PARALLEL) $(GROUPS)

# Each test of a stack that is broken waits for minutes.
tests-live:
	$(BIN)/pytest $(LIVE) --maxfail 3

tests-workers:
	$(BIN)/pytest $(WORKERS)

tests-browser:
	$(BIN)/pytest $(BROWSER)

tests-gateway:
	$(BIN)/pytest $(GATEWAY)

tests-service:
	$(BIN)/pytest $(SERVICE)

tests-pages:
	$(BIN)/pytest $(PAGES)

tests-rest:
	$(BIN)/pytest $(addprefix --ignore=,$(LIVE) $(WORKERS) $(GATEWAY) tests/service $(PAGES) $(CONTAINERS) $(RECOVERY))

# The image and compose.yaml, in a container engine of their own. Needs root on Debian or Ubuntu; images are kept in
# /var/tmp/panelworks-containers for the next run, beside the results of the last one.
containers: $(VENV)/installed-dev
	@command -v dockerd docker-compose debootstrap >/dev/null || { apt-get update -qq \
	  && apt-get install -y -qq --no-install-recommends docker.io docker-compose debootstrap; }
	$(BIN)/pytest $(CONTAINERS) -rP --durations=0 --junit-xml=/var/tmp/panelworks-containers/results.xml

# A stack is destroyed and restored from its backup; another one starts with the state of an earlier release.
recovery: $(VENV)/installed-dev servers
	$(BIN)/pytest $(RECOVERY)

# Lines that the unit tests run in their own process. The live tests and those of workers run the rest in others.
coverage: $(VENV)/installed-dev servers
	$(BIN)/pytest -m unit --cov

# The tests talk to a real Redis and a real Postgres, which they start themselves on free ports; libarchive reads RAR and 7Z;
# promtool, which checks the alerts, is a part of prometheus; the studio is tested in Chromium.
servers:
	@{ command -v chromium && command -v redis-server && command -v promtool && command -v unzip && { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; } \
	  && $(BIN)/python -c "import libarchive"; } >/dev/null 2>&1 || { \
	  if command -v brew >/dev/null; then brew install redis postgresql libarchive prometheus && brew install --cask chromium; \
	  else SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); $$SUDO apt-get update -qq \
	    && $$SUDO apt-get install -y -qq redis-server postgresql libarchive13 unzip \
	    && $$SUDO apt-get install -y -qq --no-install-recommends prometheus chromium; fi; }

# The documentation site, in site/. The build fails on every warning.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV): a minute or two."
	$(PIP) --editable ".[pipeline]"
	@touch $@

# pymatting, which softens the edges of cut-outs, compiles its functions once in an environment: more than a minute.
$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV): a few minutes, most of them PyTorch."
	$(PIP) --editable ".[dev]"
	@$(BIN)/python -c "import pymatting"
	@touch $(VENV)/installed $@

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV): a minute or two."
	$(PIP) --editable ".[docs]"
	@touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) demo-out site .mypy_cache .ruff_cache .pytest_cache .hypothesis
