# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys that a file must be signed with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import EngineError, InvalidSif, UnknownSigner, Unsigned
from ..fs.files import storage_error
from ..late import importing
from . import container
from .formats import is_sandbox

if TYPE_CHECKING:
    from ..engine.cli import Engine
    from ..engine.signature import KeySource, Verification


@dataclass(frozen=True)
class Trust:
    """The trusted keys: those of several sources, of which one must verify a file.

    ``mark`` is the same for the same keys, wherever they come from, and another one for others. It is None where time
    or somebody else may decide otherwise: of certificates, and of all keys of a keyring.

    :ivar executable: name or path of the engine; None for the engine of this host.
    """

    sources: tuple[KeySource, ...]
    mark: str | None
    executable: str | None = None
    tmpdir: str | None = None

    @cached_property
    def engine(self) -> Engine:
        """The engine, which verifies.

        :raises EngineError: if there is none.
        """
        with importing:
            from ..engine.cli import find_engine  # most runs verify nothing

        return find_engine(self.executable)

    def verify(self, path: str, what: object) -> Verification:
        """Verify that all signatures of a file are valid, and made with the keys of one source.

        :param what: names the image in errors.
        :raises Unsigned, UnknownSigner, BadSignature: if it is not so.
        :raises InvalidSif: if it is not a SIF, or cut off.
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
                return signature.verify(self.engine, path, source, self.tmpdir)
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


def _named(error: Exception, path: str, what: object) -> str:
    """Return the words of an error, with a temporary file called by the name that it is to get."""
    return str(error).replace(path, str(what))
