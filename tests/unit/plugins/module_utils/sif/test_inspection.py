# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sandbox's description of itself: as the engine reads it, but never what lies outside of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidImage
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import inspection
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.inspection import inspect

ONE = {"a": "b"}


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """Return a sandbox beside a secret, as a link in it may name both."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "box" / ".singularity.d").mkdir(parents=True)
    return tmp_path / "box"


# Each as Apptainer 1.4.5 shows it.
@pytest.mark.parametrize(
    ("files", "shown"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({".singularity.d/runscript": "\n  a b \n\n"}, {"runscript": "\n  a b "}, id="ends of lines"),
        pytest.param({".singularity.d/test": "", ".singularity.d/startscript": "\n"}, {}, id="empty files"),
        pytest.param({".singularity.d/runscript.help": "a\r\nb\udcffc"}, {"helpfile": "a\r\nb\ufffdc"}, id="no UTF-8"),
        pytest.param({".singularity.d/Singularity": "def\n"}, {"deffile": "def"}, id="a definition"),
        pytest.param(
            {
                f".singularity.d/env/{name}": name
                for name in ("01-base.sh", "10-docker.sh", "10-dockerx.sh", "9-environment.sh", "9x-environment.sh")
            },
            {
                "environment": {
                    f"/.singularity.d/env/{name}": name
                    for name in ("10-docker.sh", "10-dockerx.sh", "9-environment.sh", "9x-environment.sh")
                }
            },
            id="environment",
        ),
        pytest.param({".singularity.d/labels.json": json.dumps(ONE)}, {"labels": ONE}, id="labels"),
        *(
            pytest.param({".singularity.d/labels.json": text}, {}, id=f"labels {text}")
            for text in ('{"a": 1}', "[]", "junk", '{"a": {}}', '{"a": "b"} x')
        ),
        pytest.param(
            {
                "scif/apps/bare/scif/other": "x",
                "scif/apps/no/bin/no": "x",
                "scif/apps/file": "x",
                "scif/apps/full/scif/runscript.help": "help",
                "scif/apps/full/scif/labels.json": json.dumps(ONE),
                "scif/apps/full/scif/env/10-docker.sh": "x",
                "scif/apps/full/scif/env/90-environment.sh": "y",
            },
            {
                "apps": {
                    "bare": {},
                    "full": {
                        "helpfile": "help",
                        "labels": ONE,
                        "environment": {"/scif/apps/full/scif/env/90-environment.sh": "y"},
                    },
                }
            },
            id="applications",
        ),
    ],
)
def test_a_sandbox_is_read_as_the_engine_reads_it(box: Path, files: dict[str, str], shown: dict[str, Any]) -> None:
    for name, content in files.items():
        path = box / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(errors="surrogateescape"))
    assert inspect(str(box)) == shown


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("test", "own"),
        ("/.singularity.d/test", "own"),
        ("../.singularity.d/./test", "own"),
        ("../../../../../.singularity.d/test", "own"),
        ("/inside", "inside"),
        ("{outside}", None),
        ("../../secret", None),
        ("/link/secret", None),
        ("runscript.help", None),
        ("/nowhere", None),
        ("/.singularity.d", None),
        ("/pipe", None),
        ("test/x", None),
    ],
)
def test_a_link_is_followed_as_in_the_container(box: Path, target: str, shown: str | None) -> None:
    (box / ".singularity.d/test").write_text("own")
    (box / "inside").write_text("inside")
    (box / "link").symlink_to("..")
    os.mkfifo(box / "pipe")
    (box / ".singularity.d/runscript.help").symlink_to(target.format(outside=box.parent / "secret"))
    before = len(os.listdir("/proc/self/fd"))
    assert inspect(str(box)).get("helpfile") == shown
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_sandbox_or_too_large_is_refused(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidImage, match="it is a directory, and not a sandbox"):
        inspect(str(box.parent))
    monkeypatch.setattr(inspection, "_MAX_METADATA", 1 << 20)
    (box / ".singularity.d/test").write_bytes(b"x" * (1 << 20))
    inspect(str(box))
    (box / ".singularity.d/runscript").write_bytes(b"x")
    with pytest.raises(InvalidImage, match="larger than 1 MiB"):
        inspect(str(box))
