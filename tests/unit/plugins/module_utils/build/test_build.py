# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds: the refusals, the ones that were done already, and the fate of the old result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.build.build import create
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.build.outcome import BuildOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.build.request import BuildRequest, path_in_store
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.cli import Engine
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.executable import APPTAINER
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    EngineError,
    InvalidDefinition,
    InvalidReference,
    PackerError,
    SregistryError,
    StorageError,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.session import Session
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.formats import SANDBOX, SIF
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.toolchain import Toolchain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain, Login
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport

SCHEMA = Path(__file__).parents[5] / "docs" / "inventory.schema.json"
TEXT = "Bootstrap: scratch\n%post\n true\n"
ENGINE = """#!/bin/sh
# Stands in for an engine: it notes how it was called, and copies the definition to the target.
echo "$@" >> "$0.calls"
while [ $# -gt 2 ]; do [ "$1" = --sandbox ] && box=yes; shift; done
[ ! -e "$0.fails" ] || { echo "FATAL: as told" >&2; touch "$1"; exit 255; }
if [ "$box" ]; then mkdir -p "$1/.singularity.d" && cp "$2" "$1/.singularity.d/Singularity"; else cp "$2" "$1"; fi
"""


class Unpacked(Toolchain):
    """The toolchain of a host without a packer; the engine then packs as it likes."""

    @property
    def engine(self) -> Engine:
        """One that need not be run to know its version."""
        return Engine(str(self.executable), APPTAINER, "1.4.5")

    @property
    def packer(self) -> Any:
        """None."""
        raise PackerError("there is no mksquashfs")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return the engine."""
    path = tmp_path / "bin" / "apptainer"
    path.parent.mkdir()
    path.write_text(ENGINE)
    path.chmod(0o755)
    return path


@pytest.fixture
def wanted(tmp_path: Path, program: Path) -> BuildRequest:
    """Return a request for a SIF file of a definition that needs nothing."""
    return BuildRequest(
        path=str(tmp_path / "out/image"),
        format=SIF,
        source=None,
        definition=TEXT,
        directory=None,
        arguments={},
        fakeroot=False,
        sections=(),
        tests=True,
        name=None,
        force=False,
        checksum=False,
        toolchain=Unpacked(str(tmp_path), executable=str(program)),
        cachedir=None,
        ca_path=None,
        prepare=lambda path: None,
        timeout=60.0,
    )


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Return a run that reaches no registry."""
    registries = Registries(Keychain(Login("lab", "secret")), Transport())
    cache, inventory = BlobCache(str(tmp_path / "cache")), Inventory(str(tmp_path / "inventory"))
    return Session(registries, cache, inventory, Platform.parse("linux/amd64"), 2)


def done(session: Session, wanted: BuildRequest) -> BuildOutcome:
    """Return the outcome of a request, which must not fail."""
    outcome = create(session, wanted)
    assert isinstance(outcome, BuildOutcome)
    assert outcome.error is None, outcome.error
    return outcome


def calls(program: Path) -> int:
    """Count the calls of the engine."""
    notes = program.with_name("apptainer.calls")
    return len(notes.read_text().splitlines()) if notes.exists() else 0


@pytest.mark.parametrize("form", [SIF, SANDBOX])
def test_a_build_is_done_once(session: Session, wanted: BuildRequest, program: Path, form: str) -> None:
    wanted = replace(wanted, format=form)
    foretold = done(replace(session, check=True), wanted)
    assert (foretold.action, foretold.changed, calls(program)) == ("built", True, 0)
    first = done(session, wanted)
    assert (first.action, first.to_diff()) == ("built", foretold.to_diff())
    again = done(session, wanted)
    assert (again.action, again.changed, calls(program)) == ("present", False, 1)
    assert again.before is not None
    jsonschema.validate(again.before.to_json(), json.loads(SCHEMA.read_bytes()))
    assert list(Path(wanted.path).parent.iterdir()) == [Path(wanted.path)]


@pytest.mark.parametrize(
    ("before", "after"), [(SIF, SIF), (SANDBOX, SANDBOX), (SANDBOX, SIF), (SIF, SANDBOX)], ids=lambda form: form
)
def test_what_a_build_replaces_is_kept_where_a_backup_is_asked_for(
    session: Session, wanted: BuildRequest, before: str, after: str
) -> None:
    wanted = replace(wanted, backup=True)
    assert done(session, replace(wanted, format=before)).backup_file is None
    path = Path(wanted.path)
    identity = path.stat().st_ino
    wanted = replace(wanted, format=after, force=True)
    foretold = done(replace(session, check=True), wanted)
    outcome = done(session, wanted)
    assert (foretold.backup_file, outcome.to_diff()) == (None, foretold.to_diff())
    backup = Path(outcome.to_result("image")["backup_file"])
    assert (backup.parent, backup.stat().st_ino, backup.is_dir()) == (path.parent, identity, before == SANDBOX)
    assert path.is_dir() == (after == SANDBOX)
    assert sorted(path.parent.iterdir()) == sorted([path, backup])


CHANGES: list[Any] = [
    pytest.param(lambda wanted: replace(wanted, definition=TEXT + " false\n"), True, id="definition"),
    pytest.param(lambda wanted: replace(wanted, definition=TEXT.replace("\n", "\r\n")), False, id="line ends"),
    pytest.param(lambda wanted: replace(wanted, definition="# comment\n" + TEXT), False, id="comment above"),
    pytest.param(lambda wanted: replace(wanted, fakeroot=True), True, id="fakeroot"),
    pytest.param(lambda wanted: replace(wanted, sections=("post",)), True, id="sections"),
    pytest.param(lambda wanted: replace(wanted, tests=False), False, id="tests"),
    pytest.param(lambda wanted: replace(wanted, force=True), True, id="force"),
    pytest.param(lambda wanted: replace(wanted, timeout=61.0), False, id="timeout"),
    pytest.param(lambda wanted: engine_is(wanted, "singularity-ce"), True, id="engine"),
    pytest.param(lambda wanted: engine_is(wanted, None), False, id="no engine any more"),
]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to a group that it is not in")
@pytest.mark.parametrize(
    ("mode", "fakeroot", "refused"), [(0o2775, False, False), (0o2775, True, True), (0o3775, True, False)]
)
def test_root_builds_a_sandbox_where_a_group_may_write(
    session: Session, wanted: BuildRequest, mode: int, fakeroot: bool, refused: bool
) -> None:
    parent = Path(wanted.path).parent
    parent.mkdir()
    os.chown(parent, 0, 1000)
    parent.chmod(mode)
    outcome = create(session, replace(wanted, format=SANDBOX, fakeroot=fakeroot))
    assert isinstance(outcome, BuildOutcome)
    assert ("mode 3775" in str(outcome.error)) is refused, outcome.error
    assert [path.name for path in parent.iterdir()] == ([] if refused else ["image"])


def engine_is(wanted: BuildRequest, kind: str | None) -> BuildRequest:
    """Return the same on a host with another engine."""
    toolchain = replace(wanted.toolchain)
    vars(toolchain)["engine_kind"] = kind
    return replace(wanted, toolchain=toolchain)


@pytest.mark.parametrize(("change", "counts"), CHANGES)
def test_what_decides_the_result_is_an_input(
    session: Session, wanted: BuildRequest, change: Callable[[BuildRequest], BuildRequest], counts: bool
) -> None:
    done(session, wanted)
    outcome = done(replace(session, check=True), change(wanted))
    assert (outcome.action, outcome.changed) == (("rebuilt", True) if counts else ("present", False))


def test_a_value_is_known_by_the_digest_of_the_whole_definition_alone(session: Session, wanted: BuildRequest) -> None:
    wanted = replace(wanted, definition=TEXT + " {{ WORD }}\n", arguments={"WORD": "zebra"})
    done(session, wanted)
    assert not done(session, wanted).changed
    assert done(replace(session, check=True), replace(wanted, arguments={"WORD": "horse"})).changed
    stored = "".join(path.read_text() for path in Path(session.inventory.directory, "images").iterdir())
    assert "zebra" not in stored
    assert "zebra" not in repr(wanted)


def test_a_file_that_was_modified_or_lost_is_repaired(session: Session, wanted: BuildRequest) -> None:
    done(session, wanted)
    Path(wanted.path).write_bytes(b"hsqs")
    assert done(session, wanted).action == "repaired"
    Path(wanted.path).unlink()
    assert done(session, wanted).action == "repaired"


def test_a_failure_leaves_what_was_there(session: Session, wanted: BuildRequest, program: Path) -> None:
    done(session, wanted)
    before = Path(wanted.path).read_bytes()
    program.with_name("apptainer.fails").touch()
    outcome = create(session, replace(wanted, force=True))
    assert isinstance(outcome.error, EngineError)
    assert "as told" in str(outcome.error)
    assert Path(wanted.path).read_bytes() == before
    assert list(Path(wanted.path).parent.iterdir()) == [Path(wanted.path)]
    program.with_name("apptainer.fails").unlink()
    assert not done(session, wanted).changed


def box(path: Path) -> None:
    """Make a sandbox as if somebody else had built it."""
    (path / ".singularity.d").mkdir(parents=True)


def directory(path: Path) -> None:
    """Make somebody's directory."""
    path.mkdir(parents=True)
    (path / "precious").touch()


def text_file(path: Path) -> None:
    """Make somebody's file."""
    path.parent.mkdir()
    path.write_text("precious")


def image(path: Path) -> None:
    """Make somebody's image."""
    path.parent.mkdir()
    path.write_bytes(b"hsqs")


def link(path: Path) -> None:
    """Make a link to a directory."""
    path.parent.mkdir()
    path.symlink_to("/")


@pytest.mark.parametrize(
    ("make", "form", "force", "words"),
    [
        (box, SANDBOX, False, "give force: true"),
        (box, SIF, False, "give force: true"),
        (box, SANDBOX, True, None),
        (box, SIF, True, None),
        (directory, SANDBOX, True, "no engine has built"),
        (directory, SIF, True, "no engine has built"),
        (text_file, SIF, True, "no image"),
        (text_file, SANDBOX, True, "no image"),
        (image, SIF, False, None),
        (image, SANDBOX, False, "give force: true"),
        (image, SANDBOX, True, None),
        (link, SANDBOX, True, "is a symlink"),
        (link, SIF, True, "is a symlink"),
    ],
)
def test_only_images_are_replaced_and_directories_only_by_force(
    session: Session, wanted: BuildRequest, make: Callable[[Path], None], form: str, force: bool, words: str | None
) -> None:
    make(Path(wanted.path))
    wanted = replace(wanted, format=form, force=force)
    for check in (True, False):
        outcome = create(replace(session, check=check), wanted)
        assert (words in str(outcome.error)) if words else (outcome.error is None), outcome.error
    if words is None:
        assert Path(wanted.path).is_dir() == (form == SANDBOX)
    elif make is directory:
        assert (Path(wanted.path) / "precious").exists()
    elif make is text_file:
        assert Path(wanted.path).read_text() == "precious"
    assert len(list(Path(wanted.path).parent.iterdir())) == 1


def test_an_image_that_was_added_is_replaced_by_force_alone(session: Session, wanted: BuildRequest) -> None:
    path = Path(wanted.path)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0" * 32 + b"SIF_MAGIC\0 of the vendor")
    status = path.stat()
    added = File(
        str(path), status.st_size, status.st_mtime_ns, "0" * 64, None, {}, None, None, None, "2026-01-01T00:00:00Z"
    )
    session.inventory.put(Document.local(Reference.parse("vendor/solver:1"), session.platform, url="").with_file(added))
    for check in (True, False):
        assert "was added or built here" in str(create(replace(session, check=check), wanted).error)
    assert path.read_bytes().endswith(b"of the vendor")
    assert done(session, replace(wanted, force=True)).changed
    assert not path.read_bytes().endswith(b"of the vendor")


def test_work_in_a_sandbox_stays_until_other_inputs_come_with_force(session: Session, wanted: BuildRequest) -> None:
    wanted = replace(wanted, format=SANDBOX)
    done(session, wanted)
    (Path(wanted.path) / "work").touch()
    assert done(session, wanted).action == "present"
    other = replace(wanted, definition=TEXT + " false\n")
    assert "would be lost" in str(create(session, other).error)
    assert (Path(wanted.path) / "work").exists()
    assert done(session, replace(other, force=True)).action == "rebuilt"
    assert not (Path(wanted.path) / "work").exists()


REFUSED: list[Any] = [
    pytest.param({"definition": None, "source": "relative.def"}, "neither a URI", id="relative source"),
    pytest.param({"definition": None, "source": "/absent.def"}, "no /absent.def on this host", id="absent source"),
    pytest.param({"definition": "Bootstrap: localimage\nFrom: /absent.sif\n"}, "no /absent.sif", id="absent base"),
    pytest.param({"definition": "Bootstrap: localimage\nFrom: a.sif\n"}, "give chdir", id="relative base"),
    pytest.param({"definition": TEXT + "%files\n /absent\n"}, "no /absent on this host", id="absent file"),
    pytest.param({"definition": TEXT + "%files\n a\n"}, "give chdir", id="relative file"),
    pytest.param({"directory": "relative"}, "chdir with a leading", id="relative directory"),
    pytest.param({"definition": None, "source": "oci:/absent", "sections": ("post",)}, "mean nothing", id="useless"),
    pytest.param({"definition": "Bootstrap: docker\n"}, "no From", id="bad definition"),
    pytest.param(
        {"definition": "Bootstrap: docker\nFrom: a\n\nBootstrap: docker\nFrom: quay.io/b\n"},
        "one login to all of them",
        id="a login for two registries",
    ),
    pytest.param({"arguments": {"A": "1"}}, "does not use the build argument A", id="unused argument"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_cannot_end_well_is_refused_before_the_engine_runs(
    session: Session, wanted: BuildRequest, program: Path, change: dict[str, Any], words: str
) -> None:
    outcome = create(session, replace(wanted, **change))
    assert words in str(outcome.error)
    assert calls(program) == 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("A", "", "the value of the build argument A cannot be passed on"),
        ("A", "a\nb", "the value of the build argument A cannot be passed on"),
        ("A-B", "1", "'A-B' is not a name of a build argument"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_build_argument_that_cannot_be_passed_on_is_refused_in_check_mode_as_well(
    session: Session, wanted: BuildRequest, program: Path, name: str, value: str, words: str, check: bool
) -> None:
    wanted = replace(wanted, definition=f"{TEXT} {{{{ {name} }}}}\n", arguments={name: value})
    outcome = create(replace(session, check=check), wanted)
    assert words in str(outcome.error)
    assert calls(program) == 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"path": "relative.sif"}, StorageError, "write path with a leading '/'"),
        (
            {"definition": None, "source": "docker://a", "name": Reference.parse("b")},
            InvalidReference,
            "docker://a is in the inventory by its own name, as each image in a registry; leave name out",
        ),
        (
            {"definition": None, "source": "docker://a", "arguments": {"A": "1"}},
            InvalidDefinition,
            "is not a definition",
        ),
        ({"definition": None, "source": "docker://A"}, InvalidReference, "must be lower case"),
    ],
)
def test_an_order_that_makes_no_sense_is_an_error(
    session: Session, wanted: BuildRequest, change: dict[str, Any], error: type[SregistryError], words: str
) -> None:
    with pytest.raises(error, match=words):
        create(session, replace(wanted, **change))


@pytest.mark.parametrize(
    ("name", "source", "form", "place"),
    [
        ("team/solver:2.4", None, SIF, "team/solver-2.4.sif"),
        ("team/solver:2.4", "/srv/solver.def", SANDBOX, "team/solver-2.4"),
        ("r.example/team/solver:2", "oras://r.example/x:1", SIF, "r.example/team/solver-2.sif"),
        (None, "docker://ubuntu:24.04", SIF, "library/ubuntu-24.04.sif"),
        (None, "docker://r.example/a:1", SANDBOX, "r.example/a-1"),
        (None, "/srv/solver.def", SIF, None),
        (None, None, SIF, None),
    ],
)
def test_a_path_follows_from_a_name(name: str | None, source: str | None, form: str, place: str | None) -> None:
    reference = Reference.parse(name) if name else None
    if place is None:
        with pytest.raises(InvalidReference, match="a build needs a path, or a name"):
            path_in_store("/store", reference, source, form)
    else:
        assert path_in_store("/store", reference, source, form) == f"/store/{place}"


@pytest.mark.parametrize("owner", ["team/app:1", "r.example/other:1"])
def test_a_path_that_follows_from_a_name_is_not_taken_from_an_image_that_was_pulled(
    session: Session, wanted: BuildRequest, tmp_path: Path, owner: str
) -> None:
    path = tmp_path / "team" / "app-1.sif"
    path.parent.mkdir()
    path.write_bytes(b"\0" * 32 + b"SIF_MAGIC\0 that was pulled")
    pulled = replace(File.at(str(path), "0" * 64, {}), manifest_digest=f"sha256:{'1' * 64}")
    session.inventory.put(Document.local(Reference.parse(owner), session.platform, url="").with_file(pulled))
    wanted = replace(wanted, path=str(path), name=Reference.parse("team/app:1"), store=str(tmp_path))
    for check in (True, False):
        assert f"is the file of {owner}" in str(create(replace(session, check=check), wanted).error)
    assert path.read_bytes().endswith(b"that was pulled")
    assert done(session, replace(wanted, store=None)).changed


def test_what_a_task_before_may_bring_is_a_warning_in_check_mode(session: Session, wanted: BuildRequest) -> None:
    outcome = done(replace(session, check=True), replace(wanted, definition=None, source="/absent.def"))
    assert (outcome.changed, outcome.action) == (True, "built")
    assert outcome.warnings == ["there is no /absent.def on this host yet"]


def test_a_sandbox_that_was_edited_is_packed_again(session: Session, wanted: BuildRequest, tmp_path: Path) -> None:
    source = tmp_path / "box"
    box(source)
    wanted = replace(wanted, definition=None, source=str(source), format=SANDBOX)
    digests = [done(replace(session, check=True), wanted).inputs["from"]]
    (source / "new").touch()
    digests.append(done(replace(session, check=True), wanted).inputs["from"])
    assert len(set(digests)) == 2
    assert all(digest.startswith(f"localimage:{source}@sha256:") for digest in digests)


def test_a_login_that_no_engine_takes_is_refused(session: Session, wanted: BuildRequest) -> None:
    keychain = Keychain(Login(identity_token="refresh"))
    tokens = replace(session, registries=Registries(keychain, Transport()), check=True)
    outcome = create(tokens, replace(wanted, definition="Bootstrap: docker\nFrom: 127.0.0.1:1/team/app\n"))
    assert "the login for 127.0.0.1:1 is a token" in str(outcome.error)
    assert "refresh" not in str(outcome.error)


@pytest.mark.parametrize(
    ("transport", "message"),
    [
        (Transport(verify=False), "the engine verifies the certificate of 127.0.0.1:1, 127.0.0.1:2, whatever"),
        (Transport(insecure={"127.0.0.1:2": False}), "the engine verifies the certificate of 127.0.0.1:2, whatever"),
        (Transport(insecure={"127.0.0.1:2": True}), "where only 127.0.0.1:2 may speak it; pull the image from there"),
    ],
)
def test_a_way_to_registries_that_no_engine_takes_is_refused(
    session: Session, wanted: BuildRequest, transport: Transport, message: str
) -> None:
    reached = replace(session, registries=Registries(Keychain(), transport), check=True)
    text = "".join(f"Bootstrap: docker\nFrom: 127.0.0.1:{port}/app\nStage: of{port}\n\n" for port in (1, 2))
    outcome = create(reached, replace(wanted, definition=text))
    assert message in str(outcome.error)
