#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs the phases of "make test", JOBS of them side by side (2 unless given). The output of a phase is kept back until
# the phase is done. What failed is shown last.

set -euo pipefail

LISTS="" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# The longest first: it runs beside all the others.
phases=(sanity lint unit integration)
declare -A started took status
logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT

run_phase() {
    local code=0
    make --no-print-directory -C "$ROOT" "$1" </dev/null >"$logs/$1" 2>&1 || code=$?
    echo "$code" >"$logs/$1.status"
}

header() {
    printf '\n=== %4d s  %s\n' "$SECONDS" "$*"
}

finish_phases() {
    local phase
    for phase in "${!started[@]}"; do
        [[ -z "${status[$phase]:-}" && -e "$logs/$phase.status" ]] || continue
        status[$phase]="$(<"$logs/$phase.status")"
        took[$phase]=$((SECONDS - started[$phase]))
        if [[ "${status[$phase]}" == 0 ]]; then
            header "$phase passed in ${took[$phase]} s"
            cat "$logs/$phase"
        else
            header "$phase FAILED in ${took[$phase]} s, see the end"
        fi
    done
}

for phase in "${phases[@]}"; do
    while (($(jobs -rp | wc -l) >= ${JOBS:-2})); do
        wait -n || true
        finish_phases
    done
    header "$phase started"
    started[$phase]=$SECONDS
    run_phase "$phase" &
done
while wait -n; do
    finish_phases
done
finish_phases

failed=0
for phase in "${phases[@]}"; do
    [[ "${status[$phase]:-1}" != 0 ]] || continue
    failed=1
    header "$phase FAILED"
    cat "$logs/$phase"
done
header "done"
for phase in "${phases[@]}"; do
    printf '%-12s %4d s  %s\n' "$phase" "${took[$phase]:-0}" "$([[ "${status[$phase]:-1}" == 0 ]] && echo passed || echo FAILED)"
done
exit "$failed"
