#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Writes docs/report.png, or the file that is named: the page of the role "report" in headless Chromium.

set -euo pipefail

LISTS="browser" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"

ANSIBLE_COLLECTIONS_PATH="$(link_tree)"
export ANSIBLE_COLLECTIONS_PATH
! may_install || "$ROOT/tests/tools/lab.sh" packages
need chromium-headless-shell
cd "$ROOT"
exec python -m tests.report "$@"
