# Everything here runs in .venv, which the first target that needs it creates; nothing else on the
# machine changes.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BROWSER := _build/browser
BIOME := $(BROWSER)/node_modules/.bin/biome
PLAYWRIGHT := $(BROWSER)/.installed
PIP_INSTALL := pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
# PAGES: pages to open, and --shots FOLDER; LAB: options, see tests/browser/use_laboratory.mjs
.PHONY: help book test test-oldest test-newest test-colab test-sphinx test-pages test-lab lab lint lint-js \
	lint-workflows format chapters trust seeds weights learn-table picture notebooks jupyter owner lock \
	locked audit pdf bench bad-calls mutants kills flakes edges profile clean

help: ## list what can be made
	@grep -E '^[a-z -]+:.*##' Makefile | sed -E 's/^([a-z -]+):.*## /  make \1\t/' | expand -t 18

# Sphinx repeats no warning for a page it need not read again: without the removal, a failed build
# would pass when repeated.
book: $(INSTALLED) ## render the book from its stored outputs to _build/html
	@$(BIN)/jupyter-book build -q -W -n --keep-going . || { rm -rf _build/.doctrees; \
		echo "The book has problems: see the warnings above."; exit 1; }
	@! grep -q github.com/OWNER/ _config.yml || echo "The pages have no buttons to the repository" \
		"until they know its owner: make owner REPO=you/score-sde-book"

test: $(INSTALLED) ## run the library's tests and every chapter, outputs compared, on all cores
	$(BIN)/pytest --nbval -n logical

test-oldest test-newest test-colab test-sphinx: $(INSTALLED) ## other versions: tools/test_versions.py
	$(BIN)/$(PIP_INSTALL) uv==0.13.9
	$(BIN)/python tools/test_versions.py $(@:test-%=%)

bad-calls: $(INSTALLED) ## make 5000 bad calls of the library, and store what came of them
	$(BIN)/python tools/bad_calls.py

lint: $(INSTALLED) ## check the format, the rules and the types of all code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	@if command -v npm > /dev/null && $(MAKE) --no-print-directory $(BIOME); then $(BIOME) check; \
		else echo "Without npm and its registry, the scripts in JavaScript were not checked."; fi

lint-js: $(BIOME) ## check the format and the rules of the scripts in JavaScript
	$(BIOME) check

lint-workflows: $(INSTALLED) ## check .github against GitHub's schemas
	$(BIN)/$(PIP_INSTALL) -c constraints.txt check-jsonschema==0.39.0
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

format: $(INSTALLED) ## give all code its format, and mend what can be mended by rule
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory $(BIOME) && $(BIOME) check --write; fi

chapters: $(INSTALLED) ## execute every chapter, or CHAPTER=07_gaussian_mixture; store the outputs
	$(BIN)/python tools/execute.py $(CHAPTER)
	$(BIN)/python tools/trust.py

trust: $(INSTALLED) ## write the figures of the page on trust from what is stored
	$(BIN)/python tools/trust.py

seeds: $(INSTALLED) ## repeat the experiments, or CHAPTER=08_smile, over seeds (half an hour)
	$(BIN)/python tools/seeds.py $(CHAPTER)

learn-table: $(INSTALLED) ## measure what learn reaches on small sets, and store the table (an hour)
	$(BIN)/python tools/measure_learn.py > tools/learn.md

picture: $(INSTALLED) ## run the README's example and draw its picture
	$(BIN)/python tools/learn_picture.py

weights: $(INSTALLED) ## train the three experiments and store their weights in sdelib
	$(BIN)/python tools/weights.py

notebooks: $(INSTALLED) ## make plain notebooks, for Colab and Jupyter, in _build/notebooks
	$(BIN)/python tools/plain.py $(if $(REVISION),--revision $(REVISION))

jupyter: $(INSTALLED) ## open the chapters in JupyterLab, which is added to .venv
	$(BIN)/$(PIP_INSTALL) -c constraints.txt -e '.[jupyter]'
	$(BIN)/jupyter lab book

owner: $(INSTALLED) ## name the repository everywhere: REPO=jane/score-sde-book
	$(BIN)/python tools/owner.py $(REPO)
	@touch $(INSTALLED)  # what is installed is the same

# One lock for every system, and for the Pythons of constraints.txt. What that file leaves open, as
# the libraries of CUDA and JupyterLab, keeps its version unless requirements.lock is deleted first.
lock: $(INSTALLED) ## write requirements.lock: what constraints.txt names and leaves open, with hashes
	$(BIN)/$(PIP_INSTALL) uv==0.13.9
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11.5 \
		--extra book --extra jupyter --constraints constraints.txt --custom-compile-command 'make lock' \
		--output-file requirements.lock pyproject.toml

locked: ## make .venv of files that have the lock's hashes, as the workflows do (on Linux, with CUDA)
	$(PYTHON) -m venv .venv
	$(BIN)/$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(BIN)/$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $(INSTALLED)

audit: ## look for known weaknesses in the versions of requirements.lock
	$(PYTHON) -m venv _build/audit
	_build/audit/bin/$(PIP_INSTALL) pip-audit==2.10.1
	_build/audit/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

# The peers have an environment of their own. Torch comes first, with the book's versions, and the
# peers without their dependencies, so that none of them replaces it.
bench: $(INSTALLED) .venv-bench/.installed ## measure against peers; ONLY=errors or times; QUICK=1: only see it run
	.venv-bench/bin/python benchmarks/run.py $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))
	$(if $(QUICK),,$(BIN)/python benchmarks/page.py)

pdf: book $(PLAYWRIGHT) ## print the book to _build/book.pdf; it needs npm and chromium
	NODE_PATH=$(BROWSER)/node_modules node tools/print_book.mjs _build/book.pdf \
		$$(sed -nE 's/^ *(root:|- file:) *([^ .]*).*/\2/p' _toc.yml)

test-pages: $(PLAYWRIGHT) ## open every built page in headless Chromium: see tests/browser/check_pages.mjs
	NODE_PATH=$(BROWSER)/node_modules node tests/browser/check_pages.mjs $(PAGES)

test-lab: $(PLAYWRIGHT) ## hold the laboratory to the library, and use it, in headless Chromium
	NODE_PATH=$(BROWSER)/node_modules node tests/browser/check_laboratory.mjs $(LAB)
	NODE_PATH=$(BROWSER)/node_modules node tests/browser/use_laboratory.mjs $(LAB)

lab: $(INSTALLED) ## write the laboratory's weights and the values it is held to
	$(BIN)/python tools/laboratory.py

mutants: $(INSTALLED) ## change the library in one place at a time, 3000 times; MODULES="steps sde", EVERY=10, OWN=1
	$(BIN)/python tools/mutants.py $(if $(OWN),--own) $(if $(EVERY),--every $(EVERY)) $(MODULES)

kills: $(INSTALLED) ## kill training and saving at random moments, 100 and 300 times
	$(BIN)/python tools/kills.py

flakes: $(INSTALLED) ## repeat the tests in random order 30 times, the chapters 10 times; or TESTS=3 CHAPTERS=1
	$(BIN)/$(PIP_INSTALL) pytest-randomly==5.1.0
	$(BIN)/python tools/flakes.py $(if $(TESTS),--tests $(TESTS)) $(if $(CHAPTERS),--chapters $(CHAPTERS))

edges: $(INSTALLED) ## compute where numbers become very large or small, beside references
	$(BIN)/python tools/edges.py

profile: $(INSTALLED) ## list the slowest cells and tests
	$(BIN)/pytest --nbval -q --durations=40 --durations-min=0.5

clean: ## remove what was built, but keep .venv
	rm -rf _build .pytest_cache .ruff_cache
	find sdelib tests tools benchmarks book conftest.py -name __pycache__ -prune -exec rm -rf {} +

# A file of its own says that these are installed: the folder is there after $(BIOME) as well.
$(PLAYWRIGHT): Makefile
	@for program in npm "$${CHROMIUM:-chromium}"; do command -v $$program > /dev/null || \
		{ echo "This needs npm and chromium, or another browser of its kind in CHROMIUM."; exit 1; }; done
	npm install --silent --prefix $(BROWSER) playwright-core@1.65.1 axe-core@4.14.1 pdf-lib@1.17.1
	@touch $@

$(BIOME): biome.json
	npm install --silent --prefix $(BROWSER) @biomejs/biome@2.6.8
	@touch $@

.venv-bench/.installed: benchmarks/requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/$(PIP_INSTALL) -c constraints.txt -e .
	.venv-bench/bin/$(PIP_INSTALL) --no-deps -r benchmarks/requirements.txt
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11, 5) <= sys.version_info < (3, 15))' || { echo \
		"This book needs Python 3.11.5 to 3.14: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/$(PIP_INSTALL) -c constraints.txt -e '.[book]'
	@touch $@
