#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs playbooks/demo.yml. INVENTORY names the hosts; without it the lab is started and its hosts are taken. IMAGE
# names the image; without it the playbook has its own. NO_HTTPS=true is for a registry that speaks plain HTTP.

set -euo pipefail

LISTS="" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"

inventory="${INVENTORY:-}"
if [[ -n "$inventory" && ! -e "$inventory" ]]; then
    echo "There is no inventory $inventory" >&2
    exit 1
fi
if [[ -z "$inventory" ]]; then
    if ! may_install; then
        echo "The lab that make demo starts needs root and apt-get. Run it as root, or name hosts of your own: make demo INVENTORY=hosts.yml" >&2
        exit 1
    fi
    "$ROOT/tests/tools/lab.sh" up
    inventory="${SREGISTRY_LAB_DIR:-$CACHE/lab}/inventory.yml"
fi

arguments=(--inventory "$inventory")
if [[ -n "${IMAGE:-}" ]]; then
    arguments+=(--extra-vars "$(python -c 'import json, sys; print(json.dumps({"image": sys.argv[1]}))' "$IMAGE")")
fi
if [[ -n "${NO_HTTPS:-}" ]]; then
    arguments+=(--extra-vars "$(python -c 'import json, sys; print(json.dumps({"no_https": sys.argv[1]}))' "$NO_HTTPS")")
fi
ANSIBLE_COLLECTIONS_PATH="$(link_tree)"
export ANSIBLE_COLLECTIONS_PATH
export ANSIBLE_CALLBACK_RESULT_FORMAT="${ANSIBLE_CALLBACK_RESULT_FORMAT:-yaml}"
exec ansible-playbook "${arguments[@]}" "$ROOT/playbooks/demo.yml"
