# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one tree of exceptions of this library: every message names the thing that is wrong and the way out."""

from __future__ import annotations

from copy import copy
from typing import TypeVar

_Error = TypeVar("_Error", bound="SregistryError")


class SregistryError(Exception):
    """Root of every error that a user can cause, meet or mend.

    ``cause`` is the message without the name of what was wanted. Where many things fail for one cause, it is reported
    once for all of them.
    """

    def __init__(self, message: object = "", cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause or str(message)

    def independent_of(self: _Error, what: str) -> _Error:
        """Say that the error would be the same for something else, and return it.

        :param what: the name of what was wanted, as it stands in the message.
        """
        self.cause = str(self).replace(what, "it")
        return self

    def with_more(self: _Error, more: str) -> _Error:
        """Return the same error, with more to say at the end."""
        error = copy(self)
        error.args, error.cause = (f"{self}{more}",), f"{self.cause}{more}"
        return error


class InvalidReference(SregistryError):
    """A name that is not an image reference; raised before any network traffic."""


class InvalidPlatform(SregistryError):
    """A platform that is not ``os/architecture[/variant]``."""


class CredentialsError(SregistryError):
    """A login or authfile that cannot be used."""


class RegistryError(SregistryError):
    """A registry answered with an error, or not at all. ``status`` is the one with which it refused this request,
    0 if it was there and gave none, None where the error is about something else, such as the login.
    """

    status: int | None = None


class Unreachable(RegistryError):
    """No answer: no route, refused, name not resolved, timed out, or cut off again and again."""


class TooSlow(Unreachable):
    """An answer that came so slowly that the connection was given up."""


class CertificateError(RegistryError):
    """The TLS certificate of the registry was not accepted."""


class Unauthorized(RegistryError):
    """The registry wants a login, or did not accept the one given (status 401)."""


class Denied(RegistryError):
    """The login is known but has no right to this repository (status 403)."""


class NotFound(RegistryError):
    """The repository, tag, manifest or blob does not exist (status 404)."""


class RateLimited(RegistryError):
    """The registry serves no more for now (status 429)."""


class DigestMismatch(RegistryError):
    """Content that does not have its digest or size."""


class InvalidManifest(SregistryError):
    """A manifest, index or config that does not follow its specification."""


class PlatformNotFound(SregistryError):
    """The image exists, but not for the platform asked for."""


class InvalidLayer(SregistryError):
    """A layer that cannot be decompressed or is not a tar archive."""


class InvalidDefinition(SregistryError):
    """A definition from which no image can be built."""


class EngineError(SregistryError):
    """Singularity or Apptainer is missing or failed."""


class Unsigned(EngineError):
    """An image that nobody has signed."""


class UnknownSigner(EngineError):
    """An image that somebody has signed, but nobody whose key was given."""


class BadSignature(EngineError):
    """An image that was changed after it was signed."""


class PackerError(SregistryError):
    """The squashfs packer is missing or failed."""


class InvalidSif(SregistryError):
    """A file that is not a SIF, or a damaged one."""


class InvalidImage(SregistryError):
    """A file that is not an image of any format that the engines run, or a damaged one."""


class InvalidDatabase(SregistryError):
    """A file that is not a database of sregistry, or one that cannot be read."""


class NoSpace(SregistryError):
    """A file system has too little room."""


class StorageError(SregistryError):
    """A directory or file of the store cannot be read or written."""


class InventoryError(SregistryError):
    """An inventory document that cannot be read or written."""
