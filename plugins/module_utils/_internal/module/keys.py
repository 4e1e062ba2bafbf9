# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""The trusted keys of a task, from the parameters of a module."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..engine.keyring import normal_fingerprint
from ..engine.signature import Certificate, KeySource
from ..errors import EngineError
from ..fs.files import storage_error
from ..fs.tempdir import temporary_directory
from ..sif.trust import Trust

_MAX_KEY = 4 * 1024 * 1024  # bytes


@contextmanager
def trust_of(module: AnsibleModule) -> Iterator[Trust]:
    """Give the trusted keys, for a block: those of the user's keyring, if the task names none.

    :raises EngineError: if a key cannot be read.
    """
    wanted = module.params["verify"]
    if wanted == []:
        module.fail_json(msg="verify is an empty list, which would accept nobody; name a key, or leave it out")
    with ExitStack() as stack:
        sources = tuple(_source(module, options, stack) for options in wanted or ()) or (KeySource(),)
        yield Trust(sources, _mark(sources), module.params["engine"], scratch_directory(module))


def _source(module: AnsibleModule, options: dict[str, Any], stack: ExitStack) -> KeySource:
    key = options["key"]
    if options["key_content"]:
        key = stack.enter_context(written(module, options["key_content"]))
    certificate = None
    if options["certificate"]:
        certificate = Certificate(
            options["certificate"], options["intermediates"], options["roots"], ocsp=options["ocsp"]
        )
    for path in filter(None, (key, *(options[name] for name in ("certificate", "intermediates", "roots")))):
        readable(path)
    fingerprints = tuple(sorted(normal_fingerprint(fingerprint) for fingerprint in options["fingerprints"]))
    return KeySource(key, certificate, options["keyring"], fingerprints)


def _mark(sources: tuple[KeySource, ...]) -> str | None:
    described = []
    for source in sources:
        if source.certificate or not (source.key or source.fingerprints):
            return None
        key = hashlib.sha256(readable(source.key).strip()).hexdigest() if source.key else None
        described.append([key, *source.fingerprints])
    return hashlib.sha256(json.dumps(sorted(described, key=str)).encode()).hexdigest()


@contextmanager
def written(module: AnsibleModule, content: str) -> Iterator[str]:
    """Give a key in a file that only this user can read, for a block."""
    with temporary_directory(scratch_directory(module)) as directory:
        path = os.path.join(directory, "key")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(content if content.endswith("\n") else f"{content}\n")
        except OSError as error:
            raise storage_error(error, path) from error
        yield path


def scratch_directory(module: AnsibleModule) -> str:
    """Return a place for keys and scratch files. One that is not there yet is not made for them."""
    directory = module.params["tmpdir"]
    return directory if directory and os.path.isdir(directory) else tempfile.gettempdir()


def readable(path: str) -> bytes:
    """Return the content of a key file.

    :raises EngineError: if it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read(_MAX_KEY)
    except OSError as error:
        raise EngineError(
            f"cannot read the key {path} on this host: {error.strerror}; copy it there first, or give its text"
        ) from error
