#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Starts the lab ("up") or stops it ("down"): registries and managed hosts on this machine, see tests/lab.

set -euo pipefail

LISTS="" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

cd "$ROOT"
exec python -m tests.lab "$@"
