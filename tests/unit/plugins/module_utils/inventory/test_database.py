# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory: documents that survive everything, and rows that are always those of the documents."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    InventoryError,
    NoSpace,
    StorageError,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory import database as inventory_module
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import (
    Document,
    reference_of,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.inventories.fleet import compare
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils import strategies
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.documents import (
    AMD64,
    ARM64,
    SCHEMA,
    digest,
    document,
    image_file,
)
from hypothesis import assume, example, given, settings

FORK = multiprocessing.get_context("fork")
WAIT = 60.0  # seconds until a test gives up on another process


def get(inventory: Inventory, name: str) -> Document | None:
    return inventory.get(Reference.parse(name), AMD64)


def document_path(inventory: Inventory, name: str) -> Path:
    """Return the one file that a new document of this name has."""
    before = set(images(inventory))
    inventory.put(document(name))
    (added,) = set(images(inventory)) - before
    return added


def images(inventory: Inventory) -> list[Path]:
    """List all that lies in the directory of documents."""
    directory = Path(inventory.directory, "images")
    return sorted(directory.iterdir()) if directory.exists() else []


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    """Return an empty inventory."""
    return Inventory(str(tmp_path / "inventory"))


# Documents


def test_an_empty_inventory_knows_nothing_and_makes_no_directory(inventory: Inventory) -> None:
    assert get(inventory, "ubuntu") is None
    assert inventory.rows() == []
    assert list(inventory.documents()) == []
    assert inventory.owners("/a.sif") == []
    assert not os.path.exists(inventory.directory)


def test_one_document_is_read_and_written_without_the_others(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        inventory.put(document(f"quay.io/org/app:{number}"))
    read, opened = os.open, []

    def note(path: Any, *arguments: Any, **options: Any) -> int:
        opened.append(os.path.basename(str(path)))
        return read(path, *arguments, **options)

    monkeypatch.setattr(os, "open", note)
    found = get(inventory, "quay.io/org/app:7")
    assert found
    inventory.put(found)
    assert [name for name in opened if name.endswith(".json")] == ["quay.io+org+app=7,linux+amd64.json"]
    assert inventory.count() == 50


def test_a_document_as_it_is_stored(inventory: Inventory) -> None:
    inventory.put(document("ubuntu:22.04", image_file("/old.sif", "before"), image_file("/new.sif")))
    (path,) = images(inventory)
    assert path.name == "docker.io+library+ubuntu=22.04,linux+amd64.json"
    stored = json.loads(path.read_bytes())
    assert stored == {
        "schema_version": 1,
        "client": "dockerhub",
        "collection": "library",
        "name": "ubuntu",
        "tag": "22.04",
        "version": hashlib.sha256(b"/new.sif").hexdigest(),
        "uri": "library/ubuntu:22.04",
        "url": "docker://docker.io/library/ubuntu:22.04",
        "image": "/new.sif",
        "created_at": "2024-05-01T00:00:00Z",
        "updated_at": "2024-05-02T00:00:00Z",
        "registry": "docker.io",
        "repository": "library/ubuntu",
        "digest": digest("index"),
        "manifest_digest": digest("manifest"),
        "media_type": "application/vnd.oci.image.index.v1+json",
        "platform": "linux/amd64",
        "size": 77,
        "layers": [
            {"digest": digest("layer"), "size": 77, "media_type": "application/vnd.oci.image.layer.v1.tar+gzip"}
        ],
        "files": [
            dataclasses.asdict(image_file("/old.sif", "before")),
            dataclasses.asdict(image_file("/new.sif")),
        ],
        "metrics": {"manifest": {"schemaVersion": 2}},
    }
    # sregistry inspect shows these, in this order.
    assert list(stored)[1:10] == [
        "client", "collection", "name", "tag", "version", "uri", "url", "image", "created_at"
    ]  # fmt: skip


def test_a_document_without_files_says_so(inventory: Inventory) -> None:
    inventory.put(document(f"quay.io/org/app@{digest('pinned')}"))
    stored = json.loads(images(inventory)[0].read_bytes())
    assert (stored["image"], stored["version"], stored["tag"]) == (None, "", "")
    assert stored["url"] == f"docker://quay.io/org/app@{digest('pinned')}"


@given(strategies.documents)
def test_a_stored_document_is_read_back_as_it_was(stored: Document) -> None:
    with tempfile.TemporaryDirectory() as directory:
        inventory = Inventory(directory)
        inventory.put(stored)
        assert inventory.get(stored.reference, stored.platform) == stored
        assert list(inventory.documents()) == [stored]
        (path,) = images(inventory)
        json.loads(path.read_bytes().decode("utf-8"))  # valid for every reader, whatever the paths and labels


def test_non_ascii_text_is_stored_readably(inventory: Inventory) -> None:
    inventory.put(document("ubuntu", image_file("/srv/grüße/☃.sif")))
    assert "/srv/grüße/☃.sif" in images(inventory)[0].read_text(encoding="utf-8")


def test_an_undecodable_path_still_names_its_file(inventory: Inventory, tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.sif"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    inventory.put(document("ubuntu", image_file(os.fsdecode(raw))))
    read = get(inventory, "ubuntu")
    assert read is not None
    assert os.fsencode(read.files[0].path) == raw
    assert os.path.exists(read.files[0].path)


def test_putting_again_replaces_the_document(inventory: Inventory) -> None:
    inventory.put(document("ubuntu"))
    inventory.put(document("docker.io/library/ubuntu:latest", size=78))
    assert [found.size for found in inventory.documents()] == [78]


def test_with_file_replaces_the_one_at_the_same_path_and_makes_it_the_newest() -> None:
    first = document("ubuntu", image_file("/a.sif", "before"), image_file("/b.sif"))
    second = first.with_file(image_file("/a.sif", "now"))
    assert second.files == (image_file("/b.sif"), image_file("/a.sif", "now"))
    assert second.file("/a.sif") == image_file("/a.sif", "now")
    assert second.without_file("/b.sif").files == (image_file("/a.sif", "now"),)
    assert second.file("/c.sif") is None
    assert first.file("/a.sif") == image_file("/a.sif", "before")


def test_the_owner_of_a_file_is_found_in_all_documents(inventory: Inventory) -> None:
    inventory.put(document("ubuntu", image_file("/a.sif")))
    inventory.put(document("debian", image_file("/b.sif"), image_file("/c.sif")))
    assert inventory.owners("/c.sif") == [document("debian", image_file("/b.sif"), image_file("/c.sif"))]
    assert inventory.owners("/d.sif") == []


# File names


@given(strategies.references(), strategies.platforms, strategies.references(), strategies.platforms)
@example(Reference.parse("ubuntu:1"), AMD64, Reference.parse("ubuntu:1"), ARM64)
@example(Reference.parse(f"a:sha256-{'0' * 64}"), AMD64, Reference.parse(f"a@sha256:{'0' * 64}"), AMD64)
@example(Reference.parse("localhost:5000/a"), AMD64, Reference.parse("localhost/5000/a"), AMD64)
@example(Reference.parse("org/a-b:c"), AMD64, Reference.parse("org/a:b-c"), AMD64)
@example(Reference.parse("my.org/app"), AMD64, Reference.parse("docker.io/my.org/app"), AMD64)
@example(Reference.parse("a/b-c/d"), AMD64, Reference.parse("a/b/c-d"), AMD64)
@example(Reference.parse("a:T"), AMD64, Reference.parse("a:t"), AMD64)
@example(Reference.parse(f"host.example/{'a' * 240}:1"), AMD64, Reference.parse(f"host.example/{'a' * 240}:2"), AMD64)
@example(Reference.parse(f"host.example/{'a' * 240}:1"), AMD64, Reference.parse(f"host.example/{'a' * 240}:1"), ARM64)
@settings(max_examples=50)
def test_two_different_images_never_share_a_document(
    first: Reference, first_platform: Platform, second: Reference, second_platform: Platform
) -> None:
    assume((first, first_platform) != (second, second_platform))
    with tempfile.TemporaryDirectory() as directory:
        inventory = Inventory(directory)
        one = document(first.uri, platform=first_platform)
        other = document(second.uri, platform=second_platform)
        inventory.put(one)
        inventory.put(other)
        assert inventory.get(first, first_platform) == one
        assert inventory.get(second, second_platform) == other
        assert len(images(inventory)) == 2
        with inventory.locked(first, first_platform, 0.0), inventory.locked(second, second_platform, 0.0):
            names = os.listdir(Path(directory, "images")) + os.listdir(Path(directory, "locks"))
        assert all(len(os.fsencode(name)) <= 255 and ":" not in name for name in names)


# Errors


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff", b"<html>", b"[" * 200_000, b'{"schema_version": 1,'])
def test_a_document_that_is_not_json_is_named(inventory: Inventory, content: bytes) -> None:
    path = document_path(inventory, "ubuntu")
    path.write_bytes(content)
    with pytest.raises(InventoryError) as error:
        get(inventory, "ubuntu")
    assert str(error.value) == (
        f"the inventory document {path} is not JSON; restore it, or remove it and pull or record the image again"
    )


@pytest.mark.parametrize(
    ("content", "version"),
    [
        ({"schema_version": 2}, "2"),
        ({"schema_version": "1"}, "'1'"),
        ({}, "None"),
        ([], "None"),
        (None, "None"),
        ("text", "None"),
    ],
)
def test_a_document_of_another_version_is_refused(inventory: Inventory, content: Any, version: str) -> None:
    path = document_path(inventory, "ubuntu")
    path.write_text(json.dumps(content))
    with pytest.raises(InventoryError) as error:
        get(inventory, "ubuntu")
    assert str(error.value) == (
        f"the inventory document {path} has schema version {version}, this collection reads 1; "
        "use the version of hpc.sregistry that wrote it, or remove it and pull or record the image again"
    )


@pytest.mark.parametrize(
    "key",
    [
        "tag", "uri", "created_at", "updated_at", "registry", "repository", "digest", "manifest_digest", "media_type",
        "platform", "size", "layers", "files", "metrics",
    ],
)  # fmt: skip
def test_a_document_that_lacks_a_part_is_named_with_it(inventory: Inventory, key: str) -> None:
    path = document_path(inventory, "ubuntu")
    stored = json.loads(path.read_bytes())
    del stored[key]
    path.write_text(json.dumps(stored))
    with pytest.raises(InventoryError) as error:
        get(inventory, "ubuntu")
    assert str(error.value) == (
        f"the inventory document {path} lacks {key!r}; restore it, or remove it and pull or record the image again"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"platform": "amd64"}, "invalid platform 'amd64'"),
        *(
            ({name: wrong}, f"{name} cannot be {wrong!r}")
            for name in (
                "registry",
                "repository",
                "tag",
                "uri",
                "url",
                "client",
                "platform",
                "created_at",
                "updated_at",
            )
            for wrong in (None, 7, ["x"], {"x": "y"})
        ),
        *(({name: wrong}, f"{name} cannot be ") for name in ("digest", "media_type") for wrong in (7, ["x"], {"x": 1})),
        *(({"size": wrong}, "size cannot be ") for wrong in ("7", 7.5, True, [7], -1)),
        *(
            ({name: wrong}, f"{name} cannot be {wrong!r}")
            for name in ("created_at", "updated_at")
            for wrong in (
                "",
                "yesterday",
                "2026-11-22",
                "2026-11-22T06:40:00",
                "2026-11-22T06:40:00+00:00",
                "2026-11-22 06:40:00Z",
                "2026-11-22T06:40:00Z\n",
                "2026-11-22T06:40:00.5Z",
                "2026-13-01T00:00:00Z",
                "2026-00-01T00:00:00Z",
                "2026-02-29T00:00:00Z",
                "2100-02-29T00:00:00Z",
                "2026-04-31T00:00:00Z",
                "2026-01-00T00:00:00Z",
                "2026-01-01T24:00:00Z",
                "2026-01-01T00:60:00Z",
                "2026-12-31T23:59:60Z",
                "0000-01-01T00:00:00Z",
                "٢٠٢٦-01-01T00:00:00Z",
            )
        ),
        ({"layers": None}, "layers cannot be None"),
        ({"layers": "x"}, "layers cannot be 'x'"),
        ({"layers": ["x"]}, "layers cannot be 'x'"),
        ({"layers": [{"digest": 7}]}, "digest cannot be 7"),
        ({"files": {"a": "b"}}, "files cannot be {'a': 'b'}"),
        ({"metrics": []}, "metrics cannot be []"),
        ({"metrics": {"manifest": []}}, "manifest cannot be []"),
        ({"metrics": {"sregistry": {}}}, "sregistry cannot be {}"),
        *(
            ({"files": [{**dataclasses.asdict(image_file("/a.sif")), name: wrong}]}, f"{name} cannot be ")
            for name, values in {
                "path": (None, 7, ["/a"], {"/a": 1}, "/a\0b", "/\ud800", "relative", ""),
                "size": (None, "7", 7.5, -1, 2**53 + 1, True),
                "mtime_ns": (None, "7", 7.5, 2**63, -(2**63)),
                "sha256": (None, 7),
                "inputs": (None, [], {"format": 7}),
                "builder": (7,),
                "manifest_digest": (7,),
                "created_at": (None, 7, "", "2026-02-30T00:00:00Z", "yesterday"),
            }.items()
            for wrong in values
        ),
        ({"files": [{"path": "/a.sif"}]}, "missing 8 required positional arguments"),
        ({"files": [{**dataclasses.asdict(image_file("/a.sif")), "colour": 1}]}, "'colour'"),
        ({"files": ["/a.sif"]}, "is not a mapping"),
    ],
)
def test_a_document_with_a_wrong_part_is_named_with_it(inventory: Inventory, change: dict[str, Any], why: str) -> None:
    path = document_path(inventory, "ubuntu")
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    with pytest.raises(InventoryError) as error:
        get(inventory, "ubuntu")
    assert str(error.value).startswith(f"the inventory document {path} has a wrong value (")
    assert why in str(error.value)
    assert str(error.value).endswith("; restore it, or remove it and pull or record the image again")


@pytest.mark.parametrize(
    "change",
    [
        *(
            {name: right}
            for name in ("created_at", "updated_at")
            for right in (
                "2024-02-29T23:59:59Z",
                "2000-02-29T00:00:00Z",
                "0001-01-01T00:00:00Z",
                "9999-12-31T00:00:00Z",
            )
        ),
        {"size": 0},
        {"size": 2**60},
        *(
            {"files": [{**dataclasses.asdict(image_file("/a.sif")), name: right}]}
            for name, values in {"size": (0, 2**53), "mtime_ns": (0, -1, 2**63 - 1), "sha256": ("",)}.items()
            for right in values
        ),
    ],
)
def test_a_document_with_a_rare_part_is_read_and_what_reports_read_of_it_too(
    inventory: Inventory, change: dict[str, Any]
) -> None:
    path = document_path(inventory, "ubuntu")
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    document = get(inventory, "ubuntu")
    assert document is not None
    rows = [{**row, "state": "present"} for row in document.rows()]
    result = {"images": rows, "ansible_facts": {"sregistry": {"storage": "/s"}}}
    assert compare({"n1": result}, "2026-11-22T06:40:00Z")["hosts"][0]["status"] == "ok"


def _as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _as_endless_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _as_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.json")
    path.symlink_to("../elsewhere.json")


NO_FILE = (
    "it is not a regular file of a reasonable size; let this user read it, or remove it and pull or record the image "
    "again"
)
A_LINK = "it is a symlink, which is not followed; put the document itself there, or remove the link"


@pytest.mark.parametrize(
    ("spoil", "why"), [(_as_directory, NO_FILE), (_as_endless_link, A_LINK), (_as_link, A_LINK), (_as_pipe, NO_FILE)]
)
def test_an_unreadable_document_is_named_by_who_asks_for_it_and_by_who_asks_for_all(
    inventory: Inventory, spoil: Callable[[Path], None], why: str
) -> None:
    path = document_path(inventory, "ubuntu")
    spoil(path)
    for ask in (lambda: get(inventory, "ubuntu"), inventory.rows, lambda: inventory.owners("/a.sif")):
        with pytest.raises(InventoryError) as error:
            ask()
        assert str(error.value) == f"cannot read the inventory document {path}: {why}"


def test_a_store_that_is_a_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(InventoryError, match=f"^cannot use {tmp_path}/store: Not a directory; .* give another storage"):
        get(Inventory(str(tmp_path / "store" / ".sregistry")), "ubuntu")


def test_a_broken_document_touches_no_other(inventory: Inventory) -> None:
    inventory.put(document("debian"))
    broken = document_path(inventory, "ubuntu")
    broken.write_bytes(b"{")
    with pytest.raises(InventoryError):
        inventory.rows()
    assert get(inventory, "debian") == document("debian")
    inventory.put(document("debian", image_file("/a.sif")))
    assert get(inventory, "debian") == document("debian", image_file("/a.sif"))
    assert broken.read_bytes() == b"{"
    inventory.put(document("ubuntu"))  # recording the image again mends it
    assert [row["reference"] for row in inventory.rows()] == ["library/debian:latest", "library/ubuntu:latest"]


@pytest.mark.parametrize(
    ("function", "code", "kind", "words"),
    [
        ("fsync", errno.ENOSPC, NoSpace, "no space left while writing {}"),
        ("fsync", errno.EDQUOT, NoSpace, "no space left while writing {}"),
        ("fsync", errno.EIO, StorageError, "cannot use {}: Input/output error"),
        ("replace", errno.EROFS, StorageError, "cannot use {}: Read-only file system"),
    ],
)
def test_a_failed_write_leaves_the_old_document_and_nothing_else(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch, function: str, code: int, kind: type[Exception], words: str
) -> None:
    path = document_path(inventory, "ubuntu")
    before = path.read_bytes()

    def fail(*_arguments: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(kind) as error:
            inventory.put(document("ubuntu", image_file("/a.sif")))
    assert words.format(path) in str(error.value)
    assert images(inventory) == [path]
    assert path.read_bytes() == before


def _put_with_little_room(inventory: Inventory) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))
    try:
        inventory.put(document("ubuntu", metrics={"manifest": {"text": "x" * 1_000_000}}))
    except StorageError as error:
        sys.exit(0 if "File too large" in str(error) else 2)
    sys.exit(3)


def test_a_write_that_ends_half_way_leaves_the_old_document_and_nothing_else(inventory: Inventory) -> None:
    path = document_path(inventory, "ubuntu")
    before = path.read_bytes()
    writer = FORK.Process(target=_put_with_little_room, args=(inventory,))
    writer.start()
    writer.join(WAIT)
    assert writer.exitcode == 0
    assert images(inventory) == [path]
    assert path.read_bytes() == before


def test_documents_that_nest_too_deep_leave_the_old_document_and_nothing_else(inventory: Inventory) -> None:
    path = document_path(inventory, "ubuntu")
    before = path.read_bytes()
    deep: list[Any] = []
    for _level in range(100_000):
        deep = [deep]
    with pytest.raises(InventoryError) as error:
        inventory.put(document("ubuntu", metrics={"config": {"deep": deep}}))
    assert str(error.value) == "the manifest or config of library/ubuntu:latest nests too deep to be kept"
    assert images(inventory) == [path]
    assert path.read_bytes() == before


def test_an_inventory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    inventory = Inventory(str(tmp_path / "file" / "inventory"))
    with pytest.raises(StorageError, match=r"cannot use .*/file.*: Not a directory; check that the directory exists"):
        inventory.put(document("ubuntu"))


# Several runs at once


def _run_all(*targets: Callable[[], None]) -> None:
    """Run each in a process of its own, all at once."""
    processes = [FORK.Process(target=target) for target in targets]
    for process in processes:
        process.start()
    for process in processes:
        process.join(WAIT)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_eight_processes_at_once_lose_nothing(inventory: Inventory) -> None:
    shared = Reference.parse("ubuntu")
    turns = 10

    def work(number: int) -> None:
        for turn in range(turns):
            inventory.put(document(f"org/app{number}:{turn}"))
            with inventory.locked(shared, AMD64, WAIT):
                latest = inventory.get(shared, AMD64) or document("ubuntu")
                inventory.put(latest.with_file(image_file(f"/{number}-{turn}.sif")))
            assert inventory.rows()  # and whoever reads meanwhile finds every document whole

    _run_all(*(lambda number=number: work(number) for number in range(8)))
    together = inventory.get(shared, AMD64)
    assert together is not None
    assert {file.path for file in together.files} == {f"/{n}-{turn}.sif" for n in range(8) for turn in range(turns)}
    assert {row["reference"] for row in inventory.rows()} == {
        "library/ubuntu:latest",
        *(f"org/app{n}:{turn}" for n in range(8) for turn in range(turns)),
    }
    assert [
        path.name for path in images(inventory) if not path.name.endswith(".json") or path.name.startswith(".")
    ] == []


def test_who_waits_too_long_for_a_lock_is_told_what_to_do(inventory: Inventory) -> None:
    reference = Reference.parse("ubuntu")
    with inventory.locked(reference, AMD64, WAIT):
        with pytest.raises(StorageError) as error, inventory.locked(reference, AMD64, 0.05):
            pytest.fail("the lock was given twice")
        lock = Path(inventory.directory, "locks", "docker.io+library+ubuntu=latest,linux+amd64.lock")
        assert str(error.value) == f"another run has held {lock} for 0 s; wait for it to end, or stop it"
        with inventory.locked(reference, ARM64, 0.0), inventory.locked(Reference.parse("debian"), AMD64, 0.0):
            pass  # other images are free
    with inventory.locked(reference, AMD64, 0.0):
        pass


def test_the_lock_of_a_killed_run_is_free(inventory: Inventory, tmp_path: Path) -> None:
    reference = Reference.parse("ubuntu")
    held = tmp_path / "held"

    def hold() -> None:
        with inventory.locked(reference, AMD64, WAIT):
            held.touch()
            time.sleep(WAIT)

    holder = FORK.Process(target=hold)
    holder.start()
    deadline = time.monotonic() + WAIT
    while not held.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(StorageError), inventory.locked(reference, AMD64, 0.0):
        pass
    assert holder.pid
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(WAIT)
    with inventory.locked(reference, AMD64, WAIT):
        pass


# Rows


def test_there_is_one_row_a_file_and_one_for_an_image_without_files(inventory: Inventory) -> None:
    inventory.put(document("quay.io/org/app:1", image_file("/b.sif"), image_file("/a.sif", "before")))
    inventory.put(document("ubuntu:22.04", platform=ARM64))
    common = {"client": "dockerhub", "digest": digest("index"), "manifest_digest": digest("manifest")}
    common["updated_at"] = "2024-05-02T00:00:00Z"
    app = {"reference": "quay.io/org/app:1", "registry": "quay.io", "collection": "org", "name": "app", "tag": "1"}
    app = {**common, **app, "platform": "linux/amd64"}
    assert inventory.rows() == [
        {
            **common,
            "reference": "library/ubuntu:22.04",
            "registry": "docker.io",
            "collection": "library",
            "name": "ubuntu",
            "tag": "22.04",
            "platform": "linux/arm64",
            "path": None,
            "sha256": "",
            "size": None,
            "mtime_ns": None,
            "created_at": "2024-05-01T00:00:00Z",
            "built_from": None,
            "outdated": None,
        },
        {
            **app,
            "path": "/a.sif",
            "sha256": hashlib.sha256(b"/a.sif").hexdigest(),
            "size": 1000,
            "mtime_ns": 1_700_000_000_123_456_789,
            "created_at": "2024-05-02T00:00:00Z",
            "built_from": digest("before"),
            "outdated": True,
        },
        {
            **app,
            "path": "/b.sif",
            "sha256": hashlib.sha256(b"/b.sif").hexdigest(),
            "size": 1000,
            "mtime_ns": 1_700_000_000_123_456_789,
            "created_at": "2024-05-02T00:00:00Z",
            "built_from": digest("manifest"),
            "outdated": False,
        },
    ]


def test_files_that_are_no_documents_are_no_rows(inventory: Inventory) -> None:
    path = document_path(inventory, "ubuntu")
    (path.parent / f".{path.name}.abc.tmp").write_bytes(b"{")  # of a run that was killed while writing
    (path.parent / f".{path.name}").write_bytes(b"{")
    (path.parent / "README").write_bytes(b"")
    (path.parent / ".dangling.json").symlink_to("nowhere")
    assert [row["reference"] for row in inventory.rows()] == ["library/ubuntu:latest"]
    assert [found.reference.uri for found in inventory.documents()] == ["library/ubuntu:latest"]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the documents that were opened, by the names of their files."""
    names: list[str] = []
    load = inventory_module._load

    def counting(path: str, place: str) -> Document | None:
        names.append(os.path.basename(path))
        return load(path, place)

    monkeypatch.setattr(inventory_module, "_load", counting)
    return names


def test_one_of_ten_thousand_documents_is_found_without_reading_the_others(
    inventory: Inventory, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        for number in range(10_000):
            inventory.put(document(f"org/app:{number}"))
    rows = inventory.rows()
    assert len(rows) == len(loaded) == 10_000
    assert {row["tag"] for row in rows} == {str(number) for number in range(10_000)}

    loaded.clear()
    assert get(inventory, "org/app:5000") == document("org/app:5000")
    assert inventory.count() == 10_000
    assert loaded == ["docker.io+org+app=5000,linux+amd64.json"]


@pytest.mark.parametrize("plant", ["fifo", "symlink"])
def test_what_is_no_regular_file_is_no_document(inventory: Inventory, plant: str) -> None:
    path = document_path(inventory, "ubuntu")
    path.unlink()
    if plant == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InventoryError, match="cannot read the inventory document"):
        get(inventory, "ubuntu")


def test_a_document_put_in_the_place_of_another_is_refused(inventory: Inventory) -> None:
    inventory.put(document("evil.example.org/app"))
    (evil,) = images(inventory)
    path = document_path(inventory, "ubuntu")
    evil.replace(path)
    for ask in (lambda: get(inventory, "ubuntu"), inventory.rows):
        with pytest.raises(
            InventoryError, match=r"is that of evil\.example\.org/app:latest for linux/amd64; it was mo"
        ):
            ask()


def test_a_copy_of_a_document_is_an_error_that_says_what_to_do(inventory: Inventory) -> None:
    path = document_path(inventory, "ubuntu")
    copy = path.with_name("backup-" + path.name)
    copy.write_bytes(path.read_bytes())
    with pytest.raises(InventoryError) as error:
        inventory.rows()
    assert str(error.value) == (
        f"the inventory document {copy} is that of library/ubuntu:latest for linux/amd64; it was moved, copied or "
        f"tampered with; remove it, or give it its own name {path.name} if there is none of that name"
    )
    assert get(inventory, "ubuntu") is not None
    path.unlink()
    copy.rename(path)
    assert len(inventory.rows()) == 1


# Schema


@pytest.fixture(scope="module")
def validator() -> Any:
    """Return a validator of the published schema."""
    schema = json.loads(SCHEMA.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@given(stored=strategies.documents)
def test_every_document_follows_the_published_schema(validator: Any, stored: Document) -> None:
    assert [error.message for error in validator.iter_errors(stored.to_json())] == []


def test_every_key_of_the_schema_is_described_and_every_key_of_a_document_is_in_it(validator: Any) -> None:
    schema = validator.schema
    stored = document("ubuntu", image_file("/a.sif")).to_json()
    for part, known in (
        (stored, schema),
        (stored["files"][0], schema["$defs"]["file"]),
        (stored["layers"][0], schema["$defs"]["layer"]),
    ):
        assert list(part) == list(known["properties"]) == known["required"]
        assert [name for name, value in known["properties"].items() if not value.get("description")] == []


BOX = {"command": "cmd", "reproducible": "yes", "engine": "apptainer"}


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"colour": "red"},
        {"tag": "a b"},
        {"tag": ""},
        {"version": ""},
        {"image": None},
        {"image": "relative.sif"},
        {"files": []},
        {"files": [{"path": "/a.sif"}]},
        {"files": [{**dataclasses.asdict(image_file("/a.sif")), "size": -1}]},
        {"files": [{**dataclasses.asdict(image_file("/a.sif")), "inputs": {"engine": "apptainer"}}]},
        {"files": [{**dataclasses.asdict(image_file("/a.sif")), "builder": "auto"}]},
        {"files": [{**dataclasses.asdict(image_file("/a.sif")), "builder": "engine"}]},
        {"files": [{**dataclasses.asdict(image_file("/a.sif")), "sha256": ""}]},
        {"files": [{**dataclasses.asdict(image_file("/a")), "inputs": {**BOX, "format": "sandbox"}}]},
        {"digest": "sha256:0"},
        {"platform": "amd64"},
        {"size": "77"},
        {"created_at": "2024-05-01 00:00:00"},
        {"layers": [{"digest": digest("x")}]},
        {"metrics": {"other": {}}},
        {"uri": f"library/ubuntu@{digest('x')}"},
    ],
)
def test_the_schema_refuses_what_no_document_may_say(validator: Any, change: dict[str, Any]) -> None:
    stored = document("ubuntu", image_file("/a.sif")).to_json()
    assert validator.is_valid(stored)
    assert not validator.is_valid({**stored, **change})


@given(stored=strategies.documents)
def test_a_row_tells_the_reference_of_its_document(stored: Document) -> None:
    assert [reference_of(row) for row in stored.rows()] == [stored.reference] * max(1, len(stored.files))


def test_a_row_of_what_is_in_no_registry_tells_its_reference(inventory: Inventory) -> None:
    reference = Reference("localhost", "opt/app.sif", "latest", scheme="build")
    inventory.put(document("ubuntu", image_file("/opt/app.sif"), reference=reference))
    (row,) = inventory.rows()
    stored = inventory.get(reference_of(row), AMD64)
    assert stored is not None
    assert stored.reference == reference
