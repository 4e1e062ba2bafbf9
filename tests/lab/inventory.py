# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of the lab."""

from __future__ import annotations

import json

from tests.lab import hosts, paths
from tests.lab.registry import PASSWORD, REGISTRIES, TOKEN_PORT, USER


def write(members: list[hosts.Host]) -> None:
    """Write ``inventory.yml`` (JSON is YAML) with ``members`` in the group ``lab``."""
    group = {
        "hosts": {host.name: {"ansible_host": host.address} for host in members},
        "vars": {
            "ansible_port": hosts.SSH_PORT,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(hosts.client_key()),
            # Ansible chooses the control path itself as long as none is given.
            "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=120s -o PreferredAuthentications=publickey",
            "ansible_ssh_common_args": (
                f"-o UserKnownHostsFile={hosts.known_hosts()} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
            ),
            "ansible_pipelining": True,
            "ansible_python_interpreter": "/usr/bin/python3",
            "lab_registry": REGISTRIES["plain"].address,
            "lab_private_registry": REGISTRIES["private"].address,
            "lab_token_registry": REGISTRIES["token"].address,
            "lab_mirror": REGISTRIES["mirror"].address,
            "lab_store": REGISTRIES["store"].address,
            "lab_token_server": f"127.0.0.1:{TOKEN_PORT}",
            "lab_user": USER,
            "lab_password": PASSWORD,
            "lab_ca": "/etc/ssl/lab-ca.pem",
            "lab_controller_ca": str(paths.ca_certificate()),
        },
    }
    text = json.dumps({"lab": group}, indent=2) + "\n"
    if not paths.inventory().exists() or paths.inventory().read_text(encoding="utf-8") != text:
        draft = paths.inventory().with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        draft.rename(paths.inventory())
