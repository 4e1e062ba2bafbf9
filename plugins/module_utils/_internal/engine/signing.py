# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures that the engine adds to a SIF, with a key in PEM or a PGP key."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import EngineError
from .cli import Engine, Setting
from .keyring import PgpKey, hidden_words, is_pgp, keyring_of, keys, normal_fingerprint, unlocking


@dataclass(frozen=True)
class SigningKey:
    """The key to sign with: the one in a file, or one of a keyring.

    :ivar path: a private key in PEM, or a PGP secret key, armored or not.
    :ivar keyring: where ``path`` is not given: the engine's directory of keyrings; None is that of this user.
    :ivar fingerprint: which key, where there are several.
    """

    path: str | None = None
    keyring: str | None = None
    fingerprint: str | None = None
    passphrase: str | None = field(default=None, repr=False)


def sign(engine: Engine, image: str, key: SigningKey, tmpdir: str | None = None) -> None:
    """Add a signature of all objects to a SIF, in its place: to have the file whole or not at all, sign a copy.

    :raises EngineError: if the key cannot be used, or this version knows no such keys.
    :raises StorageError: if ``tmpdir`` cannot hold a key.
    """
    if not key.path:
        _sign_with_keyring(engine, image, key, key.keyring, tmpdir)
    elif is_pgp(key.path):
        with keyring_of(engine, key.path, key.passphrase, tmpdir) as keyring:
            _sign_with_keyring(engine, image, key, keyring, tmpdir)
    else:
        command = ["sign", engine.dialect.option("sign", "--key"), key.path, image]
        # the sigstore library takes all that it can read as the passphrase, a line feed too
        engine.run(command, Setting(tmpdir, typed=key.passphrase or "", hidden=hidden_words(key.passphrase)))


def _sign_with_keyring(engine: Engine, image: str, key: SigningKey, keyring: str | None, tmpdir: str | None) -> None:
    chosen = _choose(keys(engine, keyring, secret=True), key)
    command = ["sign", engine.dialect.option("sign", "--keyidx"), str(chosen.index), image]
    engine.run(command, unlocking(engine, keyring, key.passphrase, tmpdir))


def _choose(found: list[PgpKey], key: SigningKey) -> PgpKey:
    where = key.path or (f"the keyring {key.keyring}" if key.keyring else "this user's keyring")
    if key.fingerprint:
        wanted = normal_fingerprint(key.fingerprint)
        matching = [one for one in found if one.fingerprint == wanted]
        if not matching:
            raise EngineError(f"there is no secret PGP key {wanted} in {where}")
        return matching[0]
    if not found:
        raise EngineError(f"there is no secret PGP key in {where}")
    if len(found) > 1:
        several = ", ".join(f"{one.fingerprint} ({one.name})" for one in found)
        raise EngineError(f"there are several secret PGP keys in {where}; say which by its fingerprint: {several}")
    return found[0]
