# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PGP keys in keyrings of the engine, which are directories: listed, imported, unlocked."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import EngineError
from ..fs.tempdir import temporary_directory
from .cli import Engine, EngineResult, Setting

_KEY_IN_LIST = re.compile(
    r"^(?P<index>\d+)\)\s+(?:User|U):\s*(?P<name>.*?)\s*$.*?^\s+(?:Fingerprint|F):\s*(?P<fingerprint>[0-9A-F]+)\s*$",
    re.MULTILINE | re.DOTALL,
)
_PEM = b"-----BEGIN "
_PGP = b"-----BEGIN PGP "


@dataclass(frozen=True)
class PgpKey:
    """A PGP key in a keyring: its place in the list, its fingerprint in upper-case hexadecimal, and whose it is."""

    index: int
    fingerprint: str
    name: str


def keys(engine: Engine, keyring: str | None = None, *, secret: bool = False) -> list[PgpKey]:
    """Return the PGP keys of a keyring, public or secret ones. The engine makes the directory if it is not there.

    :raises EngineError: with the engine's own words.
    """
    options = [engine.dialect.option("key list", "--secret")] if secret else []
    listing = engine.run(["key", "list", *options], Setting(variables=keyring_variable(engine, keyring))).output
    found = _KEY_IN_LIST.finditer(listing)
    return [PgpKey(int(match["index"]), match["fingerprint"], match["name"]) for match in found]


def import_key(engine: Engine, path: str, keyring: str | None = None, passphrase: str | None = None) -> bool:
    """Put the PGP keys of a file, public or secret, into a keyring.

    :param passphrase: of secret keys; they keep it in the keyring.
    :returns: whether the keyring changed: False if it had the first of them already.
    :raises EngineError: if there is no key in the file, or the passphrase is not its own.
    """
    result = engine.run(["key", "import", path], unlocking(engine, keyring, passphrase), check=False)
    if result.status == 0:
        return True
    if "already belongs to the keyring" in result.errors:
        return False
    raise EngineError(f"cannot import the key {path}: {reason_of(result)}")


def normal_fingerprint(fingerprint: str) -> str:
    """Return a fingerprint as the engine lists it: upper-case, without spaces, colons or ``0x``."""
    return re.sub(r"^0X|[\s:]", "", fingerprint.strip().upper())


@contextmanager
def keyring_of(engine: Engine, path: str, passphrase: str | None, tmpdir: str | None) -> Iterator[str]:
    """Give a keyring for the time of a block, with the keys of one file."""
    with temporary_directory(tmpdir or tempfile.gettempdir()) as directory:
        import_key(engine, path, directory, passphrase)
        yield directory


def is_pgp(path: str) -> bool:
    """Tell whether a key is one of PGP; what is not PEM may be its binary form."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(4096).lstrip()
    except OSError as error:
        raise EngineError(f"cannot read the key {path}: {error.strerror}") from error
    return _PGP in start or _PEM not in start


def keyring_variable(engine: Engine, keyring: str | None) -> dict[str, str]:
    """Return the variable that names a keyring to the engine; none for the keyring of this user."""
    return {engine.dialect.keyring: keyring} if keyring else {}


def unlocking(engine: Engine, keyring: str | None, passphrase: str | None, tmpdir: str | None = None) -> Setting:
    """Return a setting for a keyring. The engine asks for the passphrase of each secret key once, and reads a line."""
    typed = f"{passphrase or ''}\n" * 20
    return Setting(tmpdir, variables=keyring_variable(engine, keyring), typed=typed, hidden=hidden_words(passphrase))


def hidden_words(passphrase: str | None) -> list[str]:
    """Return the words that no message may show."""
    return [passphrase] if passphrase else []


def reason_of(result: EngineResult) -> str:
    """Return the engine's last line, without its mark."""
    last = result.message.splitlines()[-1:] or [f"status {result.status}"]
    return re.sub(r"^(?:FATAL|ERROR):\s*|(?:[Ff]ailed to verify container: )", "", last[0]).strip()
