# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signing a file that the inventory knows, that is in the cache, or that is neither; by an engine of the tests' own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import signing
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.signing import SigningKey
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import EngineError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs.digest import sha256_of
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory import storage
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage import sign
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.sign import SigningTools, SignOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import container
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import DESCRIPTOR, written

AMD64 = Platform("linux", "amd64")
NAME = Reference.parse("oras://host/org/app:1")
DIGEST = f"sha256:{'1' * 64}"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be made to act for others")


def add_signature(path: str, keyid: str) -> None:
    """Change a file as an engine does: one more object, and one more descriptor."""
    content = bytearray(Path(path).read_bytes())
    envelope = f'{{"signatures":[{{"keyid":"{keyid}"}}]}}'.encode()
    free = next(at for at in range(4096, 4096 + 48 * DESCRIPTOR.size, DESCRIPTOR.size) if not content[at + 4])
    fields = (0x4005, True, 9, 0xF0000000, 0xF0000001, len(content), len(envelope), 0, 0, 0, 0, 0, b"", b"")
    content[free : free + DESCRIPTOR.size] = DESCRIPTOR.pack(*fields)
    Path(path).write_bytes(content + envelope)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sign with the fingerprint as the key's name; return the list of the files that were signed."""
    signed: list[str] = []

    def stand_in(_engine: object, path: str, key: SigningKey, _tmpdir: str) -> None:
        signed.append(path)
        if key.fingerprint == "broken":
            raise EngineError(f"cannot sign {path}")
        if key.fingerprint == "killed" and "scratch" not in path:
            add_signature(path, "killed")
            raise KeyboardInterrupt
        add_signature(path, str(key.fingerprint))

    monkeypatch.setattr(signing, "sign", stand_in)
    return signed


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(str(tmp_path / "inventory"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.sif"
    path.write_bytes(written())
    path.chmod(0o555)
    return path


@pytest.fixture
def run(tmp_path: Path, inventory: Inventory, engine: list[str]) -> Any:
    def signed(path: Path, key: str = "mine", check: bool = False) -> SignOutcome:
        tools = SigningTools(cast(Any, None), SigningKey(fingerprint=key), str(tmp_path))
        (result,) = sign.sign_files(inventory, BlobCache(str(tmp_path / "cache")), tools, [str(path)], check)
        return result

    return signed


def recorded(inventory: Inventory, path: Path, **inputs: str) -> File:
    status = path.stat()
    file = File(
        str(path),
        status.st_size,
        status.st_mtime_ns,
        sha256_of(str(path)),
        DIGEST,
        inputs,
        None,
        None,
        None,
        "2026-01-01T00:00:00Z",
    )
    older = File(str(path) + ".old", 1, 1, "2" * 64, DIGEST, {}, None, None, None, "2026-01-01T00:00:00Z")
    document = Document(
        NAME,
        AMD64,
        DIGEST,
        DIGEST,
        "",
        (),
        7,
        {},
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
        (file, older),
        client="oras",
    )
    inventory.put(document)
    return file


def known(inventory: Inventory) -> Document:
    document = inventory.get(NAME, AMD64)
    assert document
    return document


def test_a_file_is_signed_once_with_a_key(run: Any, image: Path) -> None:
    assert run(image).to_result("") == {"path": str(image), "changed": True, "action": "signed", "signers": ["mine"]}
    signed = image.read_bytes()
    assert run(image).to_result("") == {"path": str(image), "changed": False, "action": "present", "signers": ["mine"]}
    assert run(image, "yours").signers == (("mine",), ("mine", "yours"))
    assert not run(image, "mine").changed
    assert image.read_bytes() != signed
    assert image.stat().st_mode & 0o777 == 0o555


def test_check_mode_foresees_it_and_writes_nothing(run: Any, image: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    foreseen = run(image, check=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert foreseen.to_diff() == run(image).to_diff()


def test_the_inventory_follows_and_the_file_has_to_be_verified_anew(
    run: Any, inventory: Inventory, image: Path
) -> None:
    before = recorded(inventory, image, format="sif", verified="0" * 64)
    run(image)
    after, older = known(inventory).files
    assert after.path == str(image)
    assert older.path == f"{image}.old"
    assert storage.state(after.path, after.size, after.mtime_ns, after.sha256, checksum=True) == "present"
    assert after.sha256 != before.sha256
    assert after.manifest_digest == before.manifest_digest
    assert after.inputs == {"format": "sif"}


def test_a_file_that_somebody_changed_is_not_vouched_for(run: Any, inventory: Inventory, image: Path) -> None:
    recorded(inventory, image)
    os.utime(image, ns=(1, 1))
    refused = run(image)
    assert str(refused.error).startswith(f"{image} is not what the inventory says, so it is not signed")
    assert container.signers(str(image)) == frozenset()


def test_another_name_of_the_file_keeps_its_content_and_the_cache_keeps_the_signed_one(
    run: Any, inventory: Inventory, image: Path, tmp_path: Path
) -> None:
    file = recorded(inventory, image)
    cache = BlobCache(str(tmp_path / "cache"))
    cache.keep(str(image), f"sha256:{file.sha256}")
    other = tmp_path / "other.sif"
    os.link(image, other)
    run(image)
    assert other.read_bytes() == written()
    assert not cache.keeps(f"sha256:{file.sha256}")
    assert cache.proven(f"sha256:{known(inventory).files[0].sha256}")


@pytest.mark.parametrize("known_as", ["link.sif", "image.sif"])
def test_a_link_to_a_file_stays_one_and_the_inventory_follows(
    run: Any, inventory: Inventory, image: Path, tmp_path: Path, known_as: str
) -> None:
    link = tmp_path / "link.sif"
    link.symlink_to(image)
    recorded(inventory, tmp_path / known_as)
    assert run(link).changed
    assert link.is_symlink()
    assert known(inventory).files[0].sha256 == sha256_of(str(image))
    assert container.signers(str(image)) == {"mine"}


def test_a_signature_that_does_not_come_to_an_end_leaves_the_file_as_it_was(run: Any, image: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(image, "killed")
    assert image.read_bytes() == written()
    assert [path.name for path in image.parent.iterdir() if path.name.startswith(".")] == []


def test_a_link_in_the_place_of_the_copy_opens_no_other_file(
    run: Any, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "shadow"
    victim.write_text("root:x")
    victim.chmod(0o600)
    add = signing.sign

    def planting(engine: Any, path: str, key: SigningKey, tmpdir: str) -> None:
        add(engine, path, key, tmpdir)
        for copy in image.parent.glob(".image.sif.*"):
            copy.unlink()
            copy.symlink_to(victim)

    monkeypatch.setattr(signing, "sign", planting)
    before = image.read_bytes()
    assert "somebody put another file in the place of the copy" in str(run(image).error)
    assert (victim.stat().st_mode & 0o777, image.read_bytes()) == (0o600, before)


@needs_root
def test_the_engine_signs_the_copy_and_no_other_file_in_its_place(
    run: Any, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim.sif"
    victim.write_bytes(written())
    add = signing.sign

    def planting(engine: Any, path: str, key: SigningKey, tmpdir: str) -> None:
        for copy in image.parent.glob(".image.sif.*"):
            copy.unlink()
            copy.symlink_to(victim)
        add(engine, path, key, tmpdir)

    monkeypatch.setattr(signing, "sign", planting)
    assert "somebody put another file in the place of the copy" in str(run(image).error)
    assert victim.read_bytes() == written()


@needs_root
def test_another_users_file_is_not_signed_where_another_file_has_its_name_by_now(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, secret = tmp_path / "home", tmp_path / "secret.sif"
    secret.write_bytes(written())
    secret.chmod(0o600)
    home.mkdir()
    os.chown(home, 1000, 1000)
    image = home / "image.sif"
    image.write_bytes(written())
    os.chown(image, 1000, 1000)

    def swap(*_arguments: object) -> None:
        image.unlink()
        image.symlink_to(secret)
        os.lchown(image, 1000, 1000)

    monkeypatch.setattr(sign, "need_space", swap)
    assert "which the user 1000 could have made" in str(run(image).error)
    assert [path.name for path in home.iterdir()] == ["image.sif"]
    assert image.is_symlink()


def test_a_key_that_cannot_be_used_touches_no_file(run: Any, image: Path, engine: list[str]) -> None:
    with pytest.raises(EngineError):
        run(image, "broken")
    assert [os.path.basename(path) for path in engine] == ["scratch.sif"]


@pytest.mark.parametrize(
    ("content", "why"), [(None, "there is no file {} to sign"), (b"<html>", "{} is not a SIF image")]
)
def test_what_cannot_be_signed_is_named(run: Any, tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "other"
    if content:
        path.write_bytes(content)
    result = run(path)
    assert (result.action, result.changed) == ("failed", False)
    assert why.format(path) in result.to_result("")["error"]


def test_a_sandbox_cannot_be_signed(run: Any, tmp_path: Path) -> None:
    (tmp_path / "box" / ".singularity.d").mkdir(parents=True)
    result = run(tmp_path / "box")
    assert f"{tmp_path}/box is a sandbox; only SIF files can be signed" in result.to_result("")["error"]


def test_the_inventory_follows_a_file_that_is_signed_through_a_link(
    run: Any, inventory: Inventory, image: Path, tmp_path: Path
) -> None:
    recorded(inventory, image)
    link = tmp_path / "link.sif"
    link.symlink_to(image)
    run(link)
    assert known(inventory).files[0].sha256 == sha256_of(str(image))
    image.chmod(0o755)  # only root writes to a file of mode 0555
    image.write_bytes(image.read_bytes() + b"changed")
    assert "is not what the inventory says" in str(run(link, key="other").error)
