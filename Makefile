# `make up` and `make test` need python3 (3.11 or newer) with its venv module, and nothing else of the project.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENT := .venv-client
SQUAD := .venv-squad
TOOLS := client/tests/tools/node_modules
SHORT := $(addprefix tests/,test_config.py test_wrong_values.py commands/test_console.py reports uploads/test_multipart.py \
	$(addprefix api/test_,specification.py sync_document.py artifacts.py steps.py suite_runs.py) \
	$(addprefix database/test_,migrate.py queries.py pool.py))
UP ?=

.PHONY: up test client short lint chaos bench bench-client clean

up: $(VENV)/installed
	$(BIN)/reportd up $(UP)

test: lint client
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The client in an environment of its own, which has nothing of the server: its tests start a server with that of $(VENV).
client: $(VENV)/installed $(CLIENT)/installed $(TOOLS)/installed
	cd client && REPORTD_SERVER_PYTHON=$(abspath $(BIN)/python) $(abspath $(CLIENT)/bin/python) -m pytest -n 2 --dist worksteal

# What another Python or PostgreSQL could break, in a minute or two: make short VENV=.venv-3.13 PYTHON=python3.13.
# In the environment, TEST_POSTGRES is a folder with PostgreSQL's programs, instead of the wheel's.
short: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal $(SHORT)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One after the other: some compare times. CHAOS_SEED repeats a run, CHAOS_OUTPUT is a file for the counts.
chaos: $(VENV)/installed-test
	CHAOS=long $(BIN)/python -m pytest tests/chaos tests/cluster

bench: $(VENV)/installed-bench $(SQUAD)/installed
	$(BIN)/python -m bench

# What the client costs the tests, and how fast it sends to a server on this machine.
bench-client: $(VENV)/installed $(CLIENT)/installed $(TOOLS)/installed
	cd client && REPORTD_SERVER_PYTHON=$(abspath $(BIN)/python) $(abspath $(CLIENT)/bin/python) -m bench

# The screenshots of README, from the demo; needs Chromium.
pictures: $(VENV)/installed-test
	$(BIN)/python -m docs.pictures

clean:
	rm -rf $(VENV) $(CLIENT) $(SQUAD) $(TOOLS) build client/build *.egg-info

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "reportd needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "Python's venv module is missing (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(CLIENT)/installed: client/pyproject.toml | $(VENV)/bin/pip
	$(PYTHON) -m venv $(CLIENT)
	$(CLIENT)/bin/pip install --quiet --disable-pip-version-check -e 'client[test]'
	@touch $@

# Another product, for the benchmark. Its versions of libraries are not those of the server.
$(SQUAD)/installed: | $(VENV)/bin/pip
	$(PYTHON) -m venv $(SQUAD)
	$(SQUAD)/bin/pip install --quiet --disable-pip-version-check 'squad>=1.98,<2'
	@touch $@

# The test runners of other languages, whose reports the client reads. Without npm their tests are skipped.
$(TOOLS)/installed: client/tests/tools/package.json
	@mkdir -p $(TOOLS)
	@if command -v npm >/dev/null; then cd $(dir $(TOOLS)) && \
		PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --silent --fetch-retries=5 --no-audit --no-fund --no-package-lock --ignore-scripts; fi
	@touch $@

$(VENV)/installed: setup.py server/__init__.py | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[embedded]'
	@touch $@

$(VENV)/installed-test: setup.py server/__init__.py | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[embedded,test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-bench: setup.py server/__init__.py | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[embedded,bench,test]'
	@touch $@ $(VENV)/installed
