# Poolwarden. `make demo` shows it, `make test` tests it; both set up what they need in .venv (first run: a minute).
#   make demo [ARGS="--fault bmc-lies"]    a simulated pool loses its master and heals
#   make test-quick                        what a developer runs after each change: about two minutes
#   make test                              every rule; below 12 minutes. LONG=1: and every variant, below 40 minutes;
#                                          APT=1: installs the system packages of tests/apt.txt
#   make lint                              ruff, mypy, import rules
#   make rpm [ARGS="--abi 3.12"]           the agent's RPM for dom0 (3.6, 3.11 or 3.12), below build/rpm
#   make rpm-sign KEY=KEYID                signs what lies there with the builder's GPG key
#   make collector                         the archive that a collector is installed from, below build/collector
#   make bench [ARGS=...]                  measured figures, median and maximum
#   make protos / make locks / make runbook   regenerate committed files
#   make PYTHON=/path/to/python3.11 ...    which Python .venv is made from
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PYTHON
ARGS ?=

.PHONY: help demo test test-quick lint rpm rpm-sign collector bench protos locks runbook clean venv venv36 venv-redfish clients system-packages

help:
	@sed -n 's/^# \{0,1\}//; 1,12p' Makefile

venv:
	@packaging/develop/venv

# Where no Python 3.6 runs (exit 3) the rest goes on without it and says so at its end.
venv36:
	@packaging/develop/venv36 || [ $$? = 3 ]

# Only tests against sushy-tools' Redfish emulator need it; where it cannot be had they are named as not run.
venv-redfish:
	@packaging/develop/venv-redfish || [ "$${CI:-}" != true ]

# XenAPI clients of other makers, which the lab's xapi is tested with: async-xenapi (Python 3.12) and xen-api (node). Exit
# 3: this machine has no such Python, or no node; their tests are named as not run.
clients:
	@for made in venv-clients node-clients; do \
	  packaging/develop/$$made || { code=$$?; [ $$code = 3 ] || [ "$${CI:-}" != true ] || exit $$code; }; done

system-packages:
	@packaging/develop/system-packages

demo: venv
	@.venv/bin/poolwarden lab demo $(ARGS)

test-quick: venv
	@.venv/bin/python packaging/develop/run_tests.py quick

test: system-packages venv venv36 venv-redfish clients
	@.venv/bin/python packaging/develop/run_tests.py $(if $(LONG),long,full)

lint: venv
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy collector lab
	@.venv/bin/python -m pytest tests/project

rpm: venv
	@.venv/bin/python packaging/agent/build.py $(ARGS)

rpm-sign: venv
	@.venv/bin/python packaging/agent/sign.py "$(KEY)" build/rpm/*.rpm

collector: venv
	@.venv/bin/python packaging/collector/build.py

bench: venv venv36
	@.venv/bin/python tests/bench $(ARGS)

protos:
	@packaging/develop/protos

locks:
	@packaging/develop/locks

runbook: venv
	@.venv/bin/python packaging/develop/runbook > docs/runbook.md
	@.venv/bin/python packaging/develop/assumptions > docs/verify-on-real-hosts.md

clean:
	rm -rf .venv .venv36 .venv-redfish .venv-clients .node-clients .venv-protos .venv-locks build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf ./*.egg-info
