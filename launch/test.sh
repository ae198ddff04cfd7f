#!/usr/bin/env bash
# Sets up with the test extra, then lint and all tests: under 15 minutes on 2 cores, no network after the install.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" test

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/python -m pytest -n "${CODIR_TEST_WORKERS:-2}" --dist worksteal -m "not slow" "$@"
