# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker's credential helpers: programs that keep logins, ``docker-credential-NAME``.

``get`` reads a server's address from standard input, and writes ``{"ServerURL": …, "Username": …, "Secret": …}``.
Source: docker/docker-credential-helpers, ``client/client.go`` and ``credentials/error.go``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress

from .. import programs
from ..errors import CredentialsError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIRECTORIES = ("/usr/local/bin",)  # looked in besides PATH, which is short where there is no login shell
_NOT_FOUND = "credentials not found in native keychain"


def program(name: str) -> str:
    """Return the program's file name."""
    return f"docker-credential-{name}"


def ask(name: str, address: str, timeout: float) -> tuple[str, str] | None:
    """Return the user name and the secret for a server; None if this helper knows none.

    Nothing of what a failing helper says is passed on, for nobody knows what is in it.

    :param timeout: in seconds.
    :raises CredentialsError: if it is missing, fails, answers nonsense, or takes too long.
    """
    if not _NAME.fullmatch(name):
        raise CredentialsError(f"{name!r} is not a name of a credential helper")
    path = shutil.which(program(name), path=os.pathsep.join((os.environ.get("PATH", ""), *_DIRECTORIES)))
    if not path:
        raise CredentialsError(f"{program(name)} is not installed on this host")
    status, output = _run(path, address, timeout)
    if output.strip() == _NOT_FOUND.encode():
        return None
    if status != 0:
        raise CredentialsError(f"{program(name)} failed with status {status}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        username = secret = None
    if not (isinstance(username, str) and isinstance(secret, str)):
        raise CredentialsError(f"{program(name)} gave no JSON with Username and Secret")
    return (username, secret) if secret else None


def _run(path: str, address: str, timeout: float) -> tuple[int, bytes]:
    """Run a helper and all that it starts, for so many seconds at most; its status and its output."""
    name = os.path.basename(path)
    try:
        process = subprocess.Popen(
            [path, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=programs.inherited(),
        )
    except OSError as error:
        raise CredentialsError(f"{name} cannot be run: {error.strerror}") from error
    with process:
        try:
            output = process.communicate(address.encode(), timeout=timeout)[0]
        except subprocess.TimeoutExpired as error:
            raise CredentialsError(f"{name} did not answer within {timeout:g} s") from error
        finally:
            with suppress(ProcessLookupError):  # a helper may leave something running that holds its output open
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output
