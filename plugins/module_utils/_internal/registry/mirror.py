# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""A registry with mirrors: they are asked first, in their order, and the registry itself last.

A mirror is any registry with the same content, mostly a pull-through cache. What it says by digest is proven like
anything else; what it says about a tag is believed. It never gets the login of the registry behind it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from ..errors import (
    Denied,
    DigestMismatch,
    InvalidManifest,
    NotFound,
    RegistryError,
    SregistryError,
    TooSlow,
    Unauthorized,
    Unreachable,
)
from ..oci.descriptor import Descriptor
from ..oci.reference import Reference
from ..transport.keychain import Keychain
from ..transport.options import Transport
from .client import Manifest, Registry
from .location import Location

_T = TypeVar("_T")

_MAX_BREAKS = 2  # of one blob, without a byte of it; the next try has somebody else to ask
_PATIENCE = 10.0  # seconds; a mirror is there to be quick, and there is somebody else to ask


Mirrors = Mapping[str, Sequence[Location]]
"""The mirrors of registries, by host as in a reference."""


class MirroredRegistry(Registry):
    """A registry that is asked only for what none of its mirrors gives."""

    divisible = False  # what a mirror sends is proven as one stream, so that the registry can still be asked

    def __init__(self, host: str, keychain: Keychain, transport: Transport, mirrors: Sequence[Location]) -> None:
        super().__init__(host, keychain, transport)
        public = keychain.without_given()
        self._mirrors = {
            mirror: Registry(
                mirror.host,
                public,
                replace(transport, http=mirror.http, by_prefix=True, timeout=min(transport.timeout, _PATIENCE)),
            )
            for mirror in mirrors
        }
        self._trouble_lock = threading.Lock()
        self._out: dict[Location, str] = {}
        self._lacks: dict[tuple[Location, str], str] = {}
        self._tainted: set[str] = set()
        self._breaks: dict[tuple[Location, str], int] = {}
        self._said: set[Location] = set()

    def close(self) -> None:
        """Give the connections back."""
        for registry in self._mirrors.values():
            registry.close()
        super().close()

    def warnings(self, repository: str) -> list[str]:
        """Return what the user must know of a repository though it was served: an unusable login or mirror.

        Each mirror is spoken of once.
        """
        with self._trouble_lock:
            unsaid = [(mirror, why) for mirror, why in self._out.items() if mirror not in self._said]
            self._said.update(self._out)
        trouble = [f"the mirror {mirror} could not be used: {why}" for mirror, why in unsaid]
        return [*trouble, *super().warnings(repository)]

    def head(self, reference: Reference) -> Descriptor:
        """Ask with one HEAD, as :meth:`Registry.head`."""
        return self._first(reference, Registry.head)

    def get(self, reference: Reference) -> Manifest:
        """GET a manifest, as :meth:`Registry.get`."""
        return self._first(reference, Registry.get)

    def get_or_none(self, reference: Reference, writes: bool = False) -> Manifest | None:
        """GET a manifest, as :meth:`Registry.get_or_none`. What a mirror does not have, the registry may."""
        if writes:
            return super().get_or_none(reference, writes)
        return self._first(reference, Registry.get_or_none)

    @contextmanager
    def blob(
        self, repository: str, digest: str, offset: int = 0, end: int | None = None
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """GET a blob, as :meth:`Registry.blob`. What a mirror sends is proven before its end is given out."""
        for mirror, registry in self._usable(repository, digest):
            begun = -1  # at which byte it began to send
            try:
                with registry.blob(mirror.prefix + repository, digest, offset, end) as (begin, data):
                    begun = begin
                    proven = self._proven(mirror, digest, data) if begin == 0 and end is None else data
                    yield begin, self._watched(mirror, repository, digest, proven)
                    return
            except RegistryError as error:
                if begun == 0 and isinstance(error, DigestMismatch):  # it sent more than the reader takes
                    raise self._taint(mirror, digest) from error
                if begun >= 0:
                    raise
                # It may have the other layers: one that it must not distribute lies elsewhere.
                self._note(mirror, digest if isinstance(error, NotFound) else repository, error)
        with self._trouble_lock:
            anew = digest in self._tainted
        try:
            with super().blob(repository, digest, 0 if anew else offset, end) as whole:
                yield whole
        except RegistryError as error:
            raise self._with_mirrors(error, repository, digest) from error

    def _first(self, reference: Reference, ask: Callable[[Registry, Reference], _T]) -> _T:
        """Return what the first mirror answers, else the registry itself.

        :param ask: an unbound method, so that it is the registry's own where it is given this object.
        """
        for mirror, registry in self._usable(reference.repository):
            there = replace(reference, registry=mirror.host, repository=mirror.prefix + reference.repository)
            try:
                answer = ask(registry, there)
            except (RegistryError, InvalidManifest) as error:
                self._note(mirror, reference.repository, error)
            else:
                if answer is not None:
                    return answer
        try:
            return ask(self, reference)
        except RegistryError as error:
            raise self._with_mirrors(error, reference.repository) from error

    def _usable(self, *wanted: str) -> list[tuple[Location, Registry]]:
        """Return those in order that have not said of a repository or a blob that they lack it."""
        with self._trouble_lock:
            return [
                (mirror, registry)
                for mirror, registry in self._mirrors.items()
                if mirror not in self._out and not any((mirror, what) in self._lacks for what in wanted)
            ]

    def _note(self, mirror: Location, what: str, error: SregistryError) -> None:
        """Remember for this run what a mirror lacks, or that it fails: it is not asked again."""
        with self._trouble_lock:
            if isinstance(error, (NotFound, Unauthorized, Denied)):
                self._lacks[mirror, what] = str(error)
            else:
                self._out[mirror] = str(error)

    def _with_mirrors(self, error: RegistryError, *wanted: str) -> RegistryError:
        """Return the registry's own error, and what its mirrors said before."""
        with self._trouble_lock:
            said = [why for (_mirror, lacking), why in self._lacks.items() if lacking in wanted]
            said += self._out.values()
        return error.with_more(f"; its mirrors before it: {'; '.join(said)}") if said else error

    def _proven(self, mirror: Location, digest: str, data: Iterator[bytes]) -> Iterator[bytes]:
        """Yield data with its last piece held back until the whole has its digest.

        :raises Unreachable: if it has another one; then all of it is fetched from somewhere else.
        """
        hasher = hashlib.new(digest.partition(":")[0])
        held = b""
        trouble: Unreachable | None = None
        try:
            for piece in data:
                if held:
                    yield held
                hasher.update(piece)
                held = piece
        except Unreachable as error:
            trouble = error
        if not trouble and f"{digest.partition(':')[0]}:{hasher.hexdigest()}" != digest:
            raise self._taint(mirror, digest)
        if held:
            yield held
        if trouble:
            raise trouble

    def _taint(self, mirror: Location, digest: str) -> Unreachable:
        """Use a mirror no more, nor what it sent of a blob."""
        why = f"it sent other content for the blob {digest}"
        with self._trouble_lock:
            self._out[mirror] = why
            self._tainted.add(digest)
        return Unreachable(f"the mirror {mirror} is not used any more: {why}")

    def _watched(self, mirror: Location, repository: str, digest: str, data: Iterator[bytes]) -> Iterator[bytes]:
        """Yield data of a mirror; one that sends too slowly, or always breaks off, is not asked again for the rest.

        :raises Unreachable: as the data does.
        """
        came = False
        try:
            for piece in data:
                came = True
                yield piece
        except TooSlow as error:
            self._note(mirror, repository, error)
            raise
        except Unreachable as error:
            if not came:
                self._note_break(mirror, digest, error)
            raise

    def _note_break(self, mirror: Location, digest: str, error: RegistryError) -> None:
        """Remember that a mirror broke off before a byte of a blob came."""
        with self._trouble_lock:
            breaks = self._breaks[mirror, digest] = self._breaks.get((mirror, digest), 0) + 1
            if breaks >= _MAX_BREAKS:
                self._lacks[mirror, digest] = str(error)
