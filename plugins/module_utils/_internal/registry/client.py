# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""One session to one registry, after the OCI distribution specification 1.1: manifests, blobs and tags.

A request that is refused for want of a login or token is sent again in ``transport/token_retry.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..errors import DigestMismatch, NotFound, RegistryError, Unreachable
from ..late import importing
from ..oci.descriptor import Descriptor
from ..oci.reference import DOCKER_HUB, Reference, is_digest
from ..text import shown
from ..transport.http import RETRIED, HttpRequest
from ..transport.response import RANGE_REFUSED, content, content_length, data_from, media_type
from ..transport.token import Scope
from ..transport.token_retry import AuthenticatedConnections, RegistryRequest
from ..transport.url import host_of, is_web_address, redacted

if TYPE_CHECKING:
    import requests

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
MAX_MANIFEST = 4 * 1024 * 1024  # bytes; the limit that the distribution specification names


@dataclass(frozen=True)
class Manifest:
    """A manifest, its digest proven. Of a signed one, ``content`` is what was signed, and nothing else of it."""

    digest: str
    media_type: str
    content: bytes


class Registry(AuthenticatedConnections):
    """All requests to one registry host. ``divisible``: a blob may be fetched by several requests at once."""

    divisible = True

    def head(self, reference: Reference) -> Descriptor:
        """Ask with one HEAD what a name points at. This does not count against Docker Hub's pull rate limit.

        A HEAD is only the cheaper question: some registries and proxies refuse it, or leave the digest out. Then the
        manifest itself is asked for. A HEAD proves nothing: a new digest has to be confirmed with ``get``.

        :raises RegistryError: one of its kinds, naming image, registry and status.
        """
        found, waited = self._by_head(reference)
        if found:
            return found
        manifest = self._get(reference, once=waited)
        return Descriptor(manifest.digest, len(manifest.content), manifest.media_type)

    def digest(self, reference: Reference) -> str:
        """Return the digest that a name points at, to be kept: proven by a GET, where that costs nothing.

        Docker Hub counts a GET against its pull rate limit; there, one HEAD is sent instead.

        :raises RegistryError: as ``head`` and ``get``.
        """
        return self.head(reference).digest if self.host == DOCKER_HUB else self.get(reference).digest

    def _by_head(self, reference: Reference) -> tuple[Descriptor | None, bool]:
        """Return what a HEAD tells, None if it tells nothing; and whether all retries were spent on it.

        :raises RegistryError: if a GET would not succeed either: nobody is there, or the login is wrong.
        """
        try:
            with self.send(_of_manifest("HEAD", reference)) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
                size = content_length(response)
                self._need_tls(response, reference)
                complete = is_digest(digest) and size
                return (Descriptor(digest, size, media_type(response)) if complete else None), False
        except RegistryError as error:
            if error.status is None:
                raise
            return None, error.status in (0, *RETRIED)

    def get(self, reference: Reference) -> Manifest:
        """GET a manifest and prove its digest.

        :raises DigestMismatch: if the content is not what the reference or the registry says it is.
        :raises RegistryError: one of its kinds.
        """
        return self._get(reference)

    def _get(self, reference: Reference, once: bool = False) -> Manifest:
        try:
            with self.send(_of_manifest("GET", reference, once=once)) as response:
                return self._manifest(response, reference)
        except NotFound as error:
            raise self._explain_absence(reference, error) from error

    def get_or_none(self, reference: Reference, writes: bool = False) -> Manifest | None:
        """GET a manifest as ``get`` does, but return None if there is none; nobody is asked why.

        :param writes: whether something is to be written there next, which takes another token.
        """
        with self.send(_of_manifest("GET", reference, writes, also=(404,))) as response:
            return None if response.status_code == 404 else self._manifest(response, reference)

    def _manifest(self, response: requests.Response, reference: Reference) -> Manifest:
        with importing:
            from ..oci.manifest import manifest_digest
            from ..oci.schema1 import signed_payload
        self._need_tls(response, reference)
        body = content(response, MAX_MANIFEST, reference)
        kind = media_type(response)
        if kind == "text/html" and not body.startswith(b"{"):
            raise RegistryError(
                f"{host_of(response.url)} sent a page for people in the place of {reference}, such as one to log in "
                "with; a proxy may do that, so try without it"
            )
        header = response.headers.get("Docker-Content-Digest", "")
        # One that is twice there, in quotes, or without its algorithm tells nothing.
        promised = reference.digest or (header if is_digest(header) else None)
        actual = manifest_digest(body, promised)
        if promised and actual != promised:
            raise DigestMismatch(
                f"digest mismatch for the manifest of {reference}: {self.host} promised {shown(promised)} "
                f"and sent {len(body)} bytes with {actual}"
            )
        return Manifest(actual, kind, signed_payload(body))

    def _need_tls(self, response: requests.Response, reference: Reference) -> None:
        """Refuse what nothing proves: an answer about a tag without TLS, where TLS was asked for."""
        secure = self.base.startswith("https:")
        if secure and not response.url.startswith("https:") and not reference.digest:
            raise RegistryError(
                f"{self.host} redirects {reference} to {host_of(response.url)} without TLS, where anybody may change "
                "it on its way; name the image by its digest, or ask whoever runs the registry"
            )

    @contextmanager
    def blob(
        self, repository: str, digest: str, offset: int = 0, end: int | None = None
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """GET a blob, from a byte offset on, and up to a byte (exclusive), where the registry can.

        Yields the offset at which the data really begins and the chunks. That is 0 if a Range was not honoured or was
        refused, or if the part that came is another one.

        :raises RegistryError: one of its kinds; ``Unreachable`` also while reading, when the connection breaks.
        """
        what = f"the blob {digest} of {self.host}/{repository}"
        headers = {"Accept": "*/*"}
        if offset or end is not None:
            headers["Range"] = f"bytes={offset}-" + (str(end - 1) if end is not None else "")
        path = f"{repository}/blobs/{digest}"
        also = (RANGE_REFUSED,) * bool(headers.get("Range"))
        with self.send(RegistryRequest("GET", path, Scope(repository), what, headers, also)) as response:
            data = data_from(response, offset, what)
            if data:
                yield data
                return
        if not headers.get("Range"):
            raise Unreachable(f"{self.host} sends a part of {what}, unasked; a proxy may do that, so try without it")
        with self.blob(repository, digest) as whole:
            yield whole

    @contextmanager
    def elsewhere(self, url: str, what: str, offset: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """GET what a manifest says is at another address, as ``blob`` does. No login goes there.

        :raises RegistryError: one of its kinds; also for an address that is not one of HTTP.
        """
        if not is_web_address(url):
            raise RegistryError(f"{redacted(url)!r} is not an address of HTTP")
        headers = {"Accept": "*/*", **({"Range": f"bytes={offset}-"} if offset else {})}
        response, _tries = self.anonymous.send(HttpRequest("GET", url, what, headers))
        with response:
            if response.status_code >= 300 and (response.status_code != RANGE_REFUSED or not offset):
                raise NotFound(f"{redacted(url)} does not give it (status {response.status_code})")
            data = data_from(response, offset, what)
            if data:
                yield data
                return
        if not offset:
            raise Unreachable(f"{redacted(url)} sends a part of it, unasked")
        with self.elsewhere(url, what) as whole:
            yield whole

    def tags(self, repository: str) -> list[str]:
        """Return the first page of a repository's tags.

        :raises RegistryError: one of its kinds; ``NotFound`` if there is no such repository.
        """
        what = f"the tags of {self.host}/{repository}"
        request = RegistryRequest("GET", f"{repository}/tags/list?n=1000", Scope(repository), what)
        with self.send(request) as response:
            try:
                tags = json.loads(content(response, MAX_MANIFEST, what)).get("tags")
            except (ValueError, AttributeError, RecursionError):
                tags = None
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []

    def _explain_absence(self, reference: Reference, error: NotFound) -> NotFound:
        """Tell an unknown repository from an unknown tag, which a HEAD (and many a GET) does not."""
        try:
            tags = self.tags(reference.repository)
        except NotFound:
            return NotFound(
                f"name unknown: the registry {self.host} has no repository {reference.repository!r} "
                f"(status 404, wanted {reference}); check the spelling, or log in if it is private"
            )
        except RegistryError:
            return error
        if reference.digest:
            return NotFound(
                f"manifest unknown: {reference.path} has no manifest {reference.digest} (status 404 from {self.host}); "
                "it may have been deleted or belong to another repository"
            )
        known = ", ".join(shown(tag, 128) for tag in sorted(tags)[:20]) + (", …" if len(tags) > 20 else "")
        return NotFound(
            f"manifest unknown: {reference.path} has no tag {reference.tag!r} (status 404 from {self.host}); "
            f"it has {known or 'no tags'}"
        )


def manifest_path(reference: Reference) -> str:
    """Return where a manifest is, below ``/v2/``."""
    return f"{reference.repository}/manifests/{quote(reference.selector, safe=':')}"


def _of_manifest(
    method: str, reference: Reference, writes: bool = False, also: tuple[int, ...] = (), once: bool = False
) -> RegistryRequest:
    headers = {"Accept": ", ".join(MANIFEST_TYPES)}
    scope = Scope(reference.repository, writes)
    return RegistryRequest(method, manifest_path(reference), scope, str(reference), headers, also, once=once)
