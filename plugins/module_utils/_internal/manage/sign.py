# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``sign``: signatures into SIF files, and what the inventory knows of these kept true."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from ..engine import signing
from ..engine.cli import Engine
from ..engine.signing import SigningKey
from ..errors import InvalidSif, SregistryError, StorageError
from ..fs import guard, permit
from ..fs.digest import sha256_of
from ..fs.files import clone, need_space, need_writable, replacing, storage_error
from ..fs.tempdir import temporary_directory
from ..inventory import storage
from ..inventory.database import BUILD_TIMEOUT, Inventory
from ..inventory.document import File
from ..inventory.outcome import FAILED, PRESENT, Outcome
from ..oci.blobs import BlobCache
from ..sif import container
from ..sif.trust import need_file

SIGNED = "signed"

_SCRATCH = 1024 * 1024  # bytes of a file system that is none


@dataclass(frozen=True)
class SigningTools:
    """The engine and the key that sign, and a directory for scratch files that exists."""

    engine: Engine
    key: SigningKey
    tmpdir: str


@dataclass
class SignOutcome(Outcome):
    """The outcome of a signing of one file.

    :ivar signers: the keys of its signatures, before and after.
    """

    action: str = FAILED
    signers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def to_result(self, name: str = "") -> dict[str, Any]:
        """Return the file as a module returns it."""
        row = {"path": self.path, "changed": self.changed, "action": self.action, "signers": list(self.signers[1])}
        return {**row, **self.failure}

    def _facets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        before, after = ({"signers": list(signers)} for signers in self.signers)
        return before, after


def sign_files(
    inventory: Inventory, cache: BlobCache, tools: SigningTools, paths: Sequence[str], check: bool
) -> list[SignOutcome]:
    """Make sure that files are signed with a key; the error of one does not keep the others from it.

    :raises EngineError, StorageError: if nothing can be signed with this key at all.
    """
    key = _key_name(tools)
    outcomes = []
    for path in paths:
        outcome = SignOutcome(path=path)
        with outcome.catching():
            # who names a link means the file, and the inventory may know it by either
            known_as = path if inventory.owners(path) else os.path.realpath(path)
            with _held(inventory, known_as, check):
                outcome = _sign(inventory, cache, tools, key, path, check)
        outcomes.append(outcome)
    return outcomes


def _key_name(tools: SigningTools) -> str:
    """Return the name that a key gets in a signature, found out by signing a scratch file."""
    item = container.DataObject(container.JSON, "scratch", b"{}")
    with temporary_directory(tools.tmpdir) as directory:
        path = os.path.join(directory, "scratch.sif")
        try:
            with open(path, "w+b") as stream:
                offset = container.partition_offset([item])
                stream.truncate(offset + _SCRATCH)
                container.write(stream, container.HeaderFields("amd64", uuid.uuid4(), 0), [item], offset)
        except OSError as error:
            raise storage_error(error, path) from error
        signing.sign(tools.engine, path, tools.key, tools.tmpdir)
        found = container.signers(path)
    if len(found) != 1:
        raise InvalidSif(f"{tools.engine.path} signed a scratch file, and its signature names {len(found)} keys")
    return next(iter(found))


def _held(inventory: Inventory, path: str, check: bool) -> AbstractContextManager[None]:
    """Hold a file against other runs; one that no inventory knows has none to be held against."""
    if check or not os.path.isdir(inventory.directory):
        return nullcontext()
    return inventory.locked_path(path, BUILD_TIMEOUT)  # it may be built meanwhile


def _sign(
    inventory: Inventory, cache: BlobCache, tools: SigningTools, key: str, given: str, check: bool
) -> SignOutcome:
    path = os.path.realpath(given)
    need_file(path)
    try:
        with permit.reading(given):
            pass
        size = os.stat(path).st_size
        before = container.signers(path)
    except FileNotFoundError as error:
        raise StorageError(f"there is no file {given} to sign; pull or build it first") from error
    except OSError as error:
        raise storage_error(error, path) from error
    if key in before:
        return SignOutcome(path=given, action=PRESENT, signers=(tuple(sorted(before)),) * 2)
    known = [
        (owner, file)
        for owner in inventory.documents()
        for file in owner.files
        if os.path.realpath(file.path) == path  # it may be named through a link
    ]
    for _owner, file in known:
        _refuse_modified(file)
    need_writable(os.path.dirname(path))
    need_space(os.path.dirname(path), size, f"the copy of {path} that is signed")
    if not check:
        _sign_copy(tools, path)
        sha256, status = sha256_of(path), os.stat(path)
        for owner, before_signing in known:
            with inventory.locked(owner.reference, owner.platform, BUILD_TIMEOUT):
                latest = inventory.get(owner.reference, owner.platform)
                found = latest.file(before_signing.path) if latest else None
                if latest and found:
                    inventory.put(latest.with_changed(_signed(found, status, sha256)))
                    if found.digest:
                        cache.forget(found.digest)
                    cache.keep(path, f"sha256:{sha256}")
    signers = (tuple(sorted(before)), tuple(sorted(before | {key})))
    return SignOutcome(path=given, changed=True, action=SIGNED, signers=signers)


def _refuse_modified(file: File) -> None:
    """Refuse to vouch for a file that was changed: the inventory calls it unchanged when it is signed."""
    if file.state() != storage.PRESENT:
        raise StorageError(
            f"{file.path} is not what the inventory says, so it is not signed: somebody changed it; pull or build it "
            "again first"
        )


def _sign_copy(tools: SigningTools, path: str) -> None:
    """Sign a copy, which then gets the name of the file.

    The engine writes in place: killed meanwhile, it leaves a damaged file. And the file may be running, or have another
    name in the cache.
    """

    def prepare(temporary: str) -> None:
        # By its descriptor: in a directory of another user, the name may be that of any file when it is signed
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            os.fchmod(descriptor, status.st_mode & 0o777 | 0o600)  # it may be read-only, and is to be so again
            try:
                with guard.safe_path(descriptor, temporary) as held:
                    signing.sign(tools.engine, held, tools.key, tools.tmpdir)
            except SregistryError as error:
                raise type(error)(str(error).replace(temporary, path)) from error
            os.fchmod(descriptor, status.st_mode & 0o777)
            os.fsync(descriptor)
            if not os.path.samestat(os.lstat(temporary), status):
                raise StorageError(
                    f"{path} was not signed: somebody put another file in the place of the copy of it; sign it where "
                    "only this user may write"
                )
        finally:
            os.close(descriptor)

    # What was allowed to be read before may be another file by now
    with replacing(path, prepare=prepare) as target, permit.reading(path) as held, open(held, "rb") as source:
        clone(source, target)


def _signed(file: File, status: os.stat_result, sha256: str) -> File:
    """Return the same file, signed. It has to be verified anew: another signer may not be trusted."""
    inputs = file.unmarked_inputs
    return dataclasses.replace(file, size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256, inputs=inputs)
