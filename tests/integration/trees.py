# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tree in a SIF, entry by entry, and what differs between two."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from .conftest import Host

LABELS = ".singularity.d/labels.json"

# What Apptainer loses as an ordinary user, and we do not: it makes empty files in place of device nodes, and an empty
# file where its mode forbids its owner to read it.
LOST_BY_APPTAINER = {"devices/block", "devices/char", "modes/none"}


def scan(host: Host, *sifs: str) -> list[dict[str, Any]]:
    """Return the entries of SIFs on a host."""
    script = (Path(__file__).parent / "scan_sif.py").read_text(encoding="utf-8")
    done = host.shell(f"python3 - {' '.join(sifs)} <<'END-OF-SCRIPT'\n{script}\nEND-OF-SCRIPT\n", timeout=7200)
    return list(json.loads(done.stdout))


def differences(ours: dict[str, Any], theirs: dict[str, Any], varying: set[str]) -> dict[str, Any]:
    """Return the entries of two trees that differ; files that the build itself wrote have times of their own."""
    assert len(ours) > 50
    today = time.time() - 86400
    for path, entry in theirs.items():
        if entry["mtime"] > today and path in ours:
            entry["mtime"] = ours[path]["mtime"]
    assert any(0 < entry["mtime"] < today for entry in theirs.values())
    return {
        path: (ours.get(path), theirs.get(path))
        for path in sorted(ours.keys() | theirs.keys())
        if path not in varying and ours.get(path) != theirs.get(path)
    }
