#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Formats the Python files of the work tree, and mends what ruff can mend without a doubt.

set -euo pipefail

LISTS="checks" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

export RUFF_CACHE_DIR="$CACHE/ruff"
cd "$ROOT"
ruff format --quiet .
exec ruff check --fix .
