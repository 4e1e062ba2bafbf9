#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Prints the changelog as if what is in changelogs/fragments were released now, from a copy of the work tree.

set -euo pipefail

LISTS="checks" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"

tree="$(copy_tree changelog)"
cd "$tree/$COLLECTION"
ANSIBLE_COLLECTIONS_PATH="$tree" antsibull-changelog release >&2
cat CHANGELOG.md
