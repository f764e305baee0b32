#!/usr/bin/env bash
# The linters, as CI runs them: pip install --editable '.[lint]' first, and .venv's programs first in PATH.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
ruff check .
ruff format --check .
check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
check-jsonschema --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*_re*.yml
check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
