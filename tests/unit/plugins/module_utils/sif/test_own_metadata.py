# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metadata that an image brings, and what becomes of it when the engine has written into it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import EngineError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar import DIRECTORY
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.union import Union
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import builder, own_metadata
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import metadata as skeleton
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.metadata import EngineMetadata
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.own_metadata import metadata_of, without_owner
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.stacks import Member, layer

MOMENT = 1_000_000_000
HELP, TEST = ".singularity.d/runscript.help", ".singularity.d/test"


@pytest.mark.parametrize(
    ("stack", "found"),
    [
        pytest.param([["bin/", "etc/passwd"]], [], id="none"),
        pytest.param([[HELP]], [".singularity.d", HELP], id="a file, its directory implied"),
        pytest.param([[HELP, TEST], [".singularity.d/.wh.test"]], [".singularity.d", HELP], id="one that is hidden"),
        pytest.param(
            [[HELP], [Member(".singularity.d/link", symlink="runscript.help")]],
            [".singularity.d", ".singularity.d/link=" + HELP, HELP],
            id="a symlink to it",
        ),
        pytest.param(
            [["opt/help", Member(HELP, symlink="/opt/help")]],
            [".singularity.d", HELP + "=opt/help"],
            id="a symlink to a file elsewhere in the image",
        ),
        pytest.param(
            [["opt/help", Member(HELP, symlink="../../../opt/help")]],
            [".singularity.d", HELP + "=opt/help"],
            id="a symlink that tries to leave the image",
        ),
        pytest.param(
            [[Member(HELP, symlink="/etc/shadow")]], [".singularity.d"], id="a symlink to what only hosts have"
        ),
        pytest.param([[Member(HELP, symlink="runscript.help")]], [".singularity.d"], id="an endless symlink"),
        pytest.param(
            [["opt/d/x", Member(".singularity.d", symlink="opt/d")]], [], id="a symlink in place of all of it"
        ),
        pytest.param(
            [["scif/apps/one/bin/one", "scif/apps/one/scif/runscript", "scif/apps/none/bin/none", "scif/data/one"]],
            [
                "scif",
                "scif/apps",
                "scif/apps/none",
                "scif/apps/one",
                "scif/apps/one/scif",
                "scif/apps/one/scif/runscript",
            ],
            id="applications, without their software",
        ),
        pytest.param(
            [["opt/apps/one/scif/test", Member("scif/apps", symlink="../opt/apps")]],
            [
                "scif",
                "scif/apps",
                "scif/apps/one",
                "scif/apps/one/scif",
                "scif/apps/one/scif/test=opt/apps/one/scif/test",
            ],
            id="applications elsewhere",
        ),
    ],
)
def test_what_an_image_brings(stack: list[list[Member | str]], found: list[str]) -> None:
    own = metadata_of(Union([layer(*members) for members in stack]))
    told = []
    for path, entry in own.entries.items():
        name, content = path.decode(), own.contents.get(path)
        assert (content is None) == (entry.kind == DIRECTORY)
        told.append(name if content is None or content == path else f"{name}={content.decode()}")
    assert told == found
    assert own.warnings == []


def test_what_is_too_much_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_metadata, "_MAX_FILE", 40)
    monkeypatch.setattr(own_metadata, "_MAX_BYTES", 50)
    members = [
        Member(f".singularity.d/{name}", "x" * size) for name, size in (("a", 41), ("b", 40), ("c", 11), ("d", 10))
    ]
    own = metadata_of(Union([layer(*members)]))
    assert list(own.contents) == [b".singularity.d/b", b".singularity.d/d"]
    (warning,) = own.warnings
    assert warning.startswith("'/.singularity.d/a', '/.singularity.d/c' "), warning


def test_of_what_is_left_out_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_metadata, "_MAX_ENTRIES", 5)
    own = metadata_of(Union([layer(*(Member(f".singularity.d/{number}") for number in range(100)))]))
    assert len(own.entries) == 5
    assert len(own.left_out) == 6, "one more than is told"


@pytest.mark.parametrize("refuses", [True, False])
def test_where_the_engine_refuses_what_an_image_brings_the_image_is_built_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    def make(_template: object, directory: str, own: own_metadata.OwnMetadata) -> EngineMetadata:
        if refuses and own.entries:
            raise EngineError("apptainer failed: startscript: is a directory")
        return EngineMetadata(directory, (), MOMENT, own)

    monkeypatch.setattr(skeleton, "make", make)
    added = builder.MetadataWriter(cast(Any, None), str(tmp_path), lambda _step: nullcontext())
    added.renew(Union([layer("etc/passwd")]))
    assert (os.listdir(tmp_path), added.warnings) == (["engine"], [])
    added.renew(Union([layer(HELP)]))
    assert (HELP.encode() in added.latest.own.entries) is not refuses
    assert len(added.warnings) == refuses
    assert all("startscript: is a directory" in warning for warning in added.warnings)


def test_what_the_engine_left_alone_stays_and_what_it_wrote_keeps_its_owner(tmp_path: Path) -> None:
    union = Union(
        [
            layer(
                Member(".singularity.d/", uid=5, mode=0o2750),
                Member(".singularity.d/libs/", uid=6),
                Member(HELP, uid=5, mode=0o440),
                Member(TEST, uid=5, mode=0o751),
                Member(".singularity.d/labels.json", uid=7, mode=0o400),
                Member(".singularity.d/runscript", uid=7, mode=0o700),
                Member(".singularity.d/Singularity", uid=8),
                "scif/apps/one/scif/runscript",
            )
        ]
    )
    own = metadata_of(union)
    for path, entry in own.entries.items():  # as the engine unpacks it
        target = tmp_path / os.fsdecode(path)
        if entry.kind == DIRECTORY:
            target.mkdir()
        else:
            target.write_bytes(own.contents[path])
        target.chmod(without_owner(entry).mode)
    private = tmp_path / ".singularity.d"
    (private / "labels.json").write_text("{}")
    (private / "runscript").chmod(0o755)  # written with the content that it had
    (private / "bootstrap_history").mkdir()
    (private / "Singularity").rename(private / "bootstrap_history/Apptainer0")
    (private / "Singularity").write_text("bootstrap: docker")
    for path in sorted(own.entries, reverse=True):
        os.utime(tmp_path / os.fsdecode(path), (0, 0))
    os.utime(private, (9, 9))

    union.add(EngineMetadata(str(tmp_path), (), MOMENT, own).cover(union))
    found = {entry.path.decode(): (entry.uid, oct(entry.mode), entry.mtime) for entry, _data in union.entries()}
    assert {path: found[path] for path in found if path.startswith(".singularity.d")} == {
        ".singularity.d": (5, "0o2750", MOMENT),
        ".singularity.d/libs": (6, "0o755", 0),
        HELP: (5, "0o440", 0),
        TEST: (5, "0o751", 0),
        ".singularity.d/labels.json": (7, "0o400", MOMENT),
        ".singularity.d/runscript": (7, "0o755", MOMENT),
        ".singularity.d/Singularity": (0, "0o644", MOMENT),
        ".singularity.d/bootstrap_history": (0, "0o755", MOMENT),
        ".singularity.d/bootstrap_history/Apptainer0": (8, "0o644", 0),
    }
    assert found["scif/apps/one/scif/runscript"] == (0, "0o644", 0)
