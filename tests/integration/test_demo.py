# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make demo`` on hosts of one's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from .conftest import LAB, REGISTRY, Host

SCRIPT = Path(__file__).parents[1] / "tools" / "demo.sh"


def test_the_demo_takes_hosts_of_ones_own_and_a_registry_without_tls(node1: Host, tmp_path: Path) -> None:
    variables = {
        "ansible_host": f"127.0.1.{node1.name.removeprefix('node')}",
        "ansible_port": 2222,
        "ansible_user": "root",
        "ansible_python_interpreter": node1.python,
        "ansible_ssh_private_key_file": str(LAB / "ssh/id_ed25519"),
        "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={LAB}/ssh/known_hosts",
    }
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"mine": variables}}}), encoding="utf-8")
    given = {"INVENTORY": str(inventory), "IMAGE": f"{REGISTRY}/lab/tiny:1.0", "NO_HTTPS": "true"}
    done = subprocess.run(
        ["bash", str(SCRIPT)], env={**os.environ, **given}, capture_output=True, text=True, timeout=7200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = rf"mine +{REGISTRY}/lab/tiny:1\.0 +linux/amd64 +1\.\d MiB +[0-9a-f]{{12}} +\d{{4}}-\S+Z +present"
    assert re.search(row, done.stdout), done.stdout
