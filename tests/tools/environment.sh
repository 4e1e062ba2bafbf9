#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced by every other script here. Makes the virtual environment of the tests, once for each Python and each state
# of tests/requirements*.txt, and puts it first on PATH. It has what tests/requirements.txt lists, and of the other lists
# those that the script names before in LISTS. Without LISTS it has all of them.
# Nothing is written into the work tree. Sets:
#   ROOT   the collection's own directory
#   CACHE  where everything that tests make lives
#   VENV   the virtual environment

set -euo pipefail
shopt -s inherit_errexit

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)"
CACHE="${XDG_CACHE_HOME:-${HOME:?}/.cache}/hpc.sregistry"

# A shim of a version manager may be on PATH and yet run nothing, so each candidate has to prove itself.
runs_ansible() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

find_python() {
    local name candidate
    if [[ -n "${PYTHON:-}" ]]; then
        runs_ansible "$PYTHON" || {
            echo "PYTHON=$PYTHON is not a Python from 3.11 to 3.14" >&2
            return 1
        }
        type -P "$PYTHON"
        return
    fi
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        while read -r candidate; do
            if runs_ansible "$candidate"; then
                echo "$candidate"
                return
            fi
        done < <(type -aP "$name")
    done
    return 1
}

# Ends the script with one sentence, if a program is missing that it cannot do without.
need() {
    local program missing=()
    for program in "$@"; do
        type -P "$program" >/dev/null || missing+=("$program")
    done
    ((!${#missing[@]})) || {
        echo "${0##*/} needs ${missing[*]}, not found on the PATH. Install it and run this again." >&2
        exit 1
    }
}

may_install() {
    [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null
}

install_packages() {
    echo "Installing $*" >&2
    if ! may_install; then
        echo "Cannot install $*: this needs root and apt-get. Install them and run this again." >&2
        return 1
    fi
    {
        apt-get update -q || true
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
    } </dev/null >&2
}

make_environment() {
    local python="$1"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    echo "Making the test environment $VENV with $("$python" -V)" >&2
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
}

# The first list is named each time, so that pip changes nothing of it for another one.
install_lists() {
    local list missing=() files=(--requirement "$ROOT/tests/requirements.txt")
    for list in "" "$@"; do
        [[ ! -e "$VENV/.complete$list" ]] || continue
        missing+=("$list")
        [[ -z "$list" ]] || files+=(--requirement "$ROOT/tests/requirements-$list.txt")
    done
    ((${#missing[@]})) || return 0
    echo "Installing the packages for Python that these list:" "${files[@]#--requirement}" >&2
    "$VENV/bin/pip" install -qq --disable-pip-version-check "${files[@]}" >&2
    for list in "${missing[@]}"; do
        touch "$VENV/.complete$list"
    done
}

enter_environment() {
    local python
    need flock sha256sum
    mkdir -p "$CACHE"
    exec {lock}>"$CACHE/environment.lock"
    flock "$lock"
    python="$(find_python)" || {
        [[ -z "${PYTHON:-}" ]] || return 1
        install_packages python3 python3-venv
        python="$(find_python)"
    }
    VENV="$CACHE/venv-$({
        cat "$ROOT"/tests/requirements*.txt
        "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
    } | sha256sum | cut -c1-12)"
    [[ -e "$VENV/.complete" ]] || make_environment "$python"
    # shellcheck disable=SC2086 # words
    install_lists ${LISTS-checks browser}
    exec {lock}>&-
    export ROOT CACHE VENV
    export PATH="$VENV/bin:$PATH" VIRTUAL_ENV="$VENV" PYTHONDONTWRITEBYTECODE=1 ANSIBLE_HOME="$CACHE/ansible-home"
    unset PYTHONHOME PYTHONPATH
}

enter_environment
