# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures of SIF files, which the engine makes and verifies, and the keys for them.

A key is either a pair of PEM files, or a PGP key: in a file, or in a keyring of the engine, which is a directory.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import BadSignature, EngineError, UnknownSigner, Unsigned
from ..fs.tempdir import temporary_directory
from .cli import Engine, EngineResult, Setting

_KEY_IN_LIST = re.compile(
    r"^(?P<index>\d+)\)\s+(?:User|U):\s*(?P<name>.*?)\s*$.*?^\s+(?:Fingerprint|F):\s*(?P<fingerprint>[0-9A-F]+)\s*$",
    re.MULTILINE | re.DOTALL,
)
_PEM = b"-----BEGIN "
_PGP = b"-----BEGIN PGP "

# What the engines say, from the sif library (pkg/integrity) and, of Singularity 3.5, pkg/signing
_UNSIGNED = ("signature not found for", "no signatures found")
_UNKNOWN = (
    "signature made by unknown entity",
    "key material not provided",
    "verify envelope failed",
)
_BAD = ("integrity compromised", "not valid", "does not correspond", "do not match", "does not match", "not signed by")


@dataclass(frozen=True)
class PgpKey:
    """A PGP key in a keyring: its place in the list, its fingerprint in upper-case hexadecimal, and whose it is."""

    index: int
    fingerprint: str
    name: str


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


@dataclass(frozen=True)
class Certificate:
    """A certificate to verify with: the X.509 certificate of the signer, all files in PEM.

    :ivar roots: the authorities that are trusted, in the place of the system's.
    :ivar ocsp: whether an authority is asked if the certificate was revoked.
    """

    path: str
    intermediates: str | None = None
    roots: str | None = None
    ocsp: bool = False


@dataclass(frozen=True)
class KeySource:
    """One source of keys to verify with: a certificate, a file of public keys, or else a keyring.

    :ivar key: the file of a public key, in PEM, or of PGP, armored or not.
    :ivar keyring: the engine's directory of keyrings; None is that of this user.
    :ivar fingerprints: of the PGP keys that are accepted; empty for all of the source.
    :ivar url: of a key server that is asked for what the keyring lacks; without, none is asked.
    """

    key: str | None = None
    certificate: Certificate | None = None
    keyring: str | None = None
    fingerprints: tuple[str, ...] = ()
    url: str | None = None


@dataclass(frozen=True)
class VerifiedSigner:
    """A signer of objects of an image.

    :ivar fingerprint: of the PGP key, in upper-case hexadecimal; empty for a PEM key.
    :ivar name: of the PGP key's owner; ``unknown`` for a PEM key.
    :ivar local: whether the key was in the keyring.
    :ivar objects: what types of objects, in the engine's words, such as ``FS``.
    """

    fingerprint: str
    name: str
    local: bool
    objects: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """An image whose signatures are all valid: how many there are, and whose."""

    signatures: int
    signers: tuple[VerifiedSigner, ...]


def sign(engine: Engine, image: str, key: SigningKey, tmpdir: str | None = None) -> None:
    """Add a signature of all objects to a SIF, in its place: to have the file whole or not at all, sign a copy.

    :raises EngineError: if the key cannot be used, or this version knows no such keys.
    :raises StorageError: if ``tmpdir`` cannot hold a key.
    """
    if not key.path:
        _sign_with_keyring(engine, image, key, key.keyring, tmpdir)
    elif _is_pgp(key.path):
        with _keyring_of(engine, key.path, key.passphrase, tmpdir) as keyring:
            _sign_with_keyring(engine, image, key, keyring, tmpdir)
    else:
        command = ["sign", engine.dialect.option("sign", "--key"), key.path, image]
        # the sigstore library takes all that it can read as the passphrase, a line feed too
        engine.run(command, Setting(tmpdir, typed=key.passphrase or "", hidden=_hidden(key.passphrase)))


def verify(engine: Engine, image: str, source: KeySource | None = None, tmpdir: str | None = None) -> Verification:
    """Verify all signatures of a SIF with one source of keys, or else with the keyring of this user.

    The engine adds the host's global keyring to any, so the signers are compared with what was given.

    :raises Unsigned: with "no signatures found".
    :raises UnknownSigner: if a signature is by none of the keys.
    :raises BadSignature: if the image is not what was signed, or a signature is damaged.
    :raises EngineError: if it is not a SIF, or this version knows no such keys.
    """
    source = source or KeySource()
    key, fingerprints, say = source.key, source.fingerprints, engine.dialect.option
    command = ["verify", say("verify", "--json")]
    if source.certificate:
        return _verified(engine, image, [*command, *_certificate_options(engine, source.certificate)], None, tmpdir)
    if key and not _is_pgp(key):
        return _verified(engine, image, [*command, say("verify", "--key"), key], None, tmpdir)
    if key:
        with _keyring_of(engine, key, None, tmpdir) as directory:
            found = {one.fingerprint for one in keys(engine, directory)}
            if not found:
                raise EngineError(f"there is no PGP public key in {key}")
            command.append(say("verify", "--local"))
            result = _verified(engine, image, command, directory, tmpdir)
        return _accepted(image, result, fingerprints or found)
    command += [say("verify", "--url"), source.url] if source.url else [say("verify", "--local")]
    result = _verified(engine, image, command, source.keyring, tmpdir)
    return _accepted(image, result, fingerprints) if fingerprints else result


def keys(engine: Engine, keyring: str | None = None, *, secret: bool = False) -> list[PgpKey]:
    """Return the PGP keys of a keyring, public or secret ones. The engine makes the directory if it is not there.

    :raises EngineError: with the engine's own words.
    """
    options = [engine.dialect.option("key list", "--secret")] if secret else []
    listing = engine.run(["key", "list", *options], Setting(variables=_keyring(engine, keyring))).output
    found = _KEY_IN_LIST.finditer(listing)
    return [PgpKey(int(match["index"]), match["fingerprint"], match["name"]) for match in found]


def import_key(engine: Engine, path: str, keyring: str | None = None, passphrase: str | None = None) -> bool:
    """Put the PGP keys of a file, public or secret, into a keyring.

    :param passphrase: of secret keys; they keep it in the keyring.
    :returns: whether the keyring changed: False if it had the first of them already.
    :raises EngineError: if there is no key in the file, or the passphrase is not its own.
    """
    result = engine.run(["key", "import", path], _unlocking(engine, keyring, passphrase), check=False)
    if result.status == 0:
        return True
    if "already belongs to the keyring" in result.errors:
        return False
    raise EngineError(f"cannot import the key {path}: {_reason(result)}")


def normal_fingerprint(fingerprint: str) -> str:
    """Return a fingerprint as the engine lists it: upper-case, without spaces, colons or ``0x``."""
    return re.sub(r"^0X|[\s:]", "", fingerprint.strip().upper())


def _sign_with_keyring(engine: Engine, image: str, key: SigningKey, keyring: str | None, tmpdir: str | None) -> None:
    chosen = _choose(keys(engine, keyring, secret=True), key)
    command = ["sign", engine.dialect.option("sign", "--keyidx"), str(chosen.index), image]
    engine.run(command, _unlocking(engine, keyring, key.passphrase, tmpdir))


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


def _verified(engine: Engine, image: str, command: list[str], keyring: str | None, tmpdir: str | None) -> Verification:
    result = engine.run([*command, image], Setting(tmpdir, variables=_keyring(engine, keyring)), check=False)
    if result.status != 0:
        raise _failure(image, result)
    try:
        document = json.loads(result.output)
        verified = Verification(int(document["Signatures"]), _signers(document["SignerKeys"] or []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{engine.path} verify answered what is not its JSON: {result.output[:200]!r}") from error
    if not verified.signers:
        raise Unsigned(f"{image}: no signatures found")
    return verified


def _signers(entries: list[dict[str, dict[str, object]]]) -> tuple[VerifiedSigner, ...]:
    objects: dict[tuple[str, str, bool], list[str]] = {}
    for entry in entries:
        one = entry["Signer"]
        who = (str(one["Fingerprint"]).upper(), str(one["Name"]), bool(one["KeyLocal"]))
        objects.setdefault(who, []).append(str(one["Partition"]))
    return tuple(VerifiedSigner(*who, tuple(dict.fromkeys(parts))) for who, parts in objects.items())


def _failure(image: str, result: EngineResult) -> EngineError:
    reason = _reason(result)
    if any(words in reason for words in _UNSIGNED):
        return Unsigned(f"{image}: no signatures found: {reason}")
    if any(words in reason for words in _UNKNOWN):
        return UnknownSigner(f"{image}: no key that was given is that of a signer, or a signature is damaged: {reason}")
    if any(words in reason for words in _BAD):
        return BadSignature(f"{image}: it was changed after it was signed, or a signature is damaged: {reason}")
    return _failure_of_3_5(image, result) or EngineError(f"cannot verify {image}: {reason}")


def _failure_of_3_5(image: str, result: EngineResult) -> EngineError | None:
    """Singularity 3.5 gives no reason, but says of each signature whether the data fits; then, only the key is left."""
    try:
        entries = [entry["Signer"] for entry in json.loads(result.output)["SignerKeys"] or []]
        fits = all(entry["DataCheck"] for entry in entries)
    except (ValueError, KeyError, TypeError):
        return None
    if not entries:
        return None
    if fits:
        return UnknownSigner(f"{image}: no key that was given is that of a signer, or a signature is damaged")
    return BadSignature(f"{image}: it was changed after it was signed, or a signature is damaged")


def _accepted(image: str, result: Verification, fingerprints: Collection[str]) -> Verification:
    accepted = {normal_fingerprint(fingerprint) for fingerprint in fingerprints}
    others = [
        f"{signer.fingerprint} ({signer.name})" for signer in result.signers if signer.fingerprint not in accepted
    ]
    if others:
        raise UnknownSigner(f"{image}: signed by {', '.join(others)}, not by {' or '.join(sorted(accepted))} alone")
    return result


def _certificate_options(engine: Engine, certificate: Certificate) -> list[str]:
    say = engine.dialect.option
    options = [say("verify", "--certificate"), certificate.path]
    if certificate.intermediates:
        options += [say("verify", "--certificate-intermediates"), certificate.intermediates]
    if certificate.roots:
        options += [say("verify", "--certificate-roots"), certificate.roots]
    return [*options, *[say("verify", "--ocsp-verify")] * certificate.ocsp]


@contextmanager
def _keyring_of(engine: Engine, path: str, passphrase: str | None, tmpdir: str | None) -> Iterator[str]:
    """Give a keyring for the time of a block, with the keys of one file."""
    with temporary_directory(tmpdir or tempfile.gettempdir()) as directory:
        import_key(engine, path, directory, passphrase)
        yield directory


def _is_pgp(path: str) -> bool:
    """Tell whether a key is one of PGP; what is not PEM may be its binary form."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(4096).lstrip()
    except OSError as error:
        raise EngineError(f"cannot read the key {path}: {error.strerror}") from error
    return _PGP in start or _PEM not in start


def _keyring(engine: Engine, keyring: str | None) -> dict[str, str]:
    return {engine.dialect.keyring: keyring} if keyring else {}


def _unlocking(engine: Engine, keyring: str | None, passphrase: str | None, tmpdir: str | None = None) -> Setting:
    """Return a setting for a keyring. The engine asks for the passphrase of each secret key once, and reads a line."""
    typed = f"{passphrase or ''}\n" * 20
    return Setting(tmpdir, variables=_keyring(engine, keyring), typed=typed, hidden=_hidden(passphrase))


def _hidden(passphrase: str | None) -> list[str]:
    return [passphrase] if passphrase else []


def _reason(result: EngineResult) -> str:
    """Return the engine's last line, without its mark."""
    last = result.message.splitlines()[-1:] or [f"status {result.status}"]
    return re.sub(r"^(?:FATAL|ERROR):\s*|(?:[Ff]ailed to verify container: )", "", last[0]).strip()
