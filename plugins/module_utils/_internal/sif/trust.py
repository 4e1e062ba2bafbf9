# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``verify``: whether SIF files are signed by somebody who is trusted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import BadSignature, EngineError, InvalidSif, SregistryError, StorageError, UnknownSigner, Unsigned
from ..fs import permit
from ..fs.files import storage_error
from ..late import importing
from . import container
from .formats import is_sandbox

if TYPE_CHECKING:
    from ..engine.cli import Engine
    from ..engine.signature import Certificate, Verification

SIGNED, UNSIGNED, UNKNOWN, DAMAGED = "signed", "unsigned", "unknown_signer", "damaged"
MISSING, NO_SIF, FAILED = "missing", "no_sif", "failed"

_KINDS: tuple[tuple[type[SregistryError], str], ...] = (
    (Unsigned, UNSIGNED),
    (UnknownSigner, UNKNOWN),
    (BadSignature, DAMAGED),
    (InvalidSif, NO_SIF),
    (StorageError, MISSING),
)


@dataclass(frozen=True)
class Source:
    """One source of keys: the file of a public key, in PEM or of PGP; or a certificate; or else a keyring.

    ``fingerprints`` are those of the PGP keys that are accepted, empty for all of the source.
    """

    key: str | None = None
    certificate: Certificate | None = None
    keyring: str | None = None
    fingerprints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trust:
    """Who is trusted: whoever verifies with one of the sources.

    ``mark`` is the same for the same keys, wherever they come from, and another one for others. It is None where time
    or somebody else may decide otherwise: of certificates, and of all keys of a keyring.
    """

    sources: tuple[Source, ...]
    mark: str | None
    engine: Callable[[], Engine]
    tmpdir: str | None = None

    def verify(self, path: str, what: object) -> Verification:
        """All signatures of a file are valid, and are made with the keys of one source.

        :param what: names the image in errors.
        :raises Unsigned, UnknownSigner, BadSignature: if it is not so.
        :raises InvalidSif: if it is no SIF, or cut off.
        :raises StorageError: if it cannot be read.
        :raises EngineError: if the engine cannot verify.
        """
        with importing:
            from ..engine import signature  # most runs verify nothing

        try:
            need_file(path)
            container.read_header(path)
        except InvalidSif as error:
            raise InvalidSif(f"verification failed: {_named(error, path, what)}") from error
        except OSError as error:
            raise storage_error(error, path) from error
        errors: list[EngineError] = []
        for source in self.sources:
            try:
                return signature.verify(
                    self.engine(),
                    path,
                    key=source.key,
                    certificate=source.certificate,
                    keyring=source.keyring,
                    fingerprints=source.fingerprints,
                    tmpdir=self.tmpdir,
                )
            except EngineError as error:
                errors.append(error)
        # with several sources, what is wrong with the file says more than that some key is not the one
        told = min(errors, key=lambda error: (isinstance(error, UnknownSigner), not isinstance(error, Unsigned)))
        raise type(told)(f"verification failed: {_named(told, path, what)}") from told


def need_file(path: str) -> None:
    """Refuse a directory, which no signature can be in.

    :raises InvalidSif: if it is one.
    """
    if os.path.isdir(path):
        raise InvalidSif(
            f"{path} is a {'sandbox' if is_sandbox(path) else 'directory'}; only SIF files can be signed, so build "
            "one of it first"
        )


def report(trust: Trust, path: str) -> dict[str, Any]:
    """What is to be said of one file: whether it is signed by who is trusted, by whom, and if not, why."""
    answer: dict[str, Any] = {"path": path, "verified": False, "state": FAILED, "signers": [], "error": None}
    try:
        if not os.path.exists(path):
            raise StorageError(f"verification failed: there is no file {path}")
        with permit.reading(path, out=False):
            found = trust.verify(path, path)
    except SregistryError as error:
        state = next((name for kind, name in _KINDS if isinstance(error, kind)), FAILED)
        return {**answer, "state": state, "error": str(error)}
    signers = [
        {
            "fingerprint": signer.fingerprint or None,
            "name": signer.name if signer.fingerprint else None,
            "objects": list(signer.objects),
        }
        for signer in found.signers
    ]
    return {**answer, "verified": True, "state": SIGNED, "signers": signers}


def _named(error: Exception, path: str, what: object) -> str:
    """The words of an error, with a temporary file called by the name that it is to get."""
    return str(error).replace(path, str(what))
