# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures of SIF files, verified by the engine.

A key is either a pair of PEM files, or a PGP key: in a file, or in a keyring of the engine, which is a directory.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from ..errors import BadSignature, EngineError, UnknownSigner, Unsigned
from .cli import Engine, EngineResult, Setting
from .keyring import is_pgp, keyring_of, keyring_variable, keys, normal_fingerprint, reason_of

# What the engines say, from the sif library (pkg/integrity) and, of Singularity 3.5, pkg/signing
_UNSIGNED = ("signature not found for", "no signatures found")
_UNKNOWN = (
    "signature made by unknown entity",
    "key material not provided",
    "verify envelope failed",
)
_BAD = ("integrity compromised", "not valid", "does not correspond", "do not match", "does not match", "not signed by")


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
    if key and not is_pgp(key):
        return _verified(engine, image, [*command, say("verify", "--key"), key], None, tmpdir)
    if key:
        with keyring_of(engine, key, None, tmpdir) as directory:
            found = {one.fingerprint for one in keys(engine, directory)}
            if not found:
                raise EngineError(f"there is no PGP public key in {key}")
            command.append(say("verify", "--local"))
            result = _verified(engine, image, command, directory, tmpdir)
        return _accepted(image, result, fingerprints or found)
    command += [say("verify", "--url"), source.url] if source.url else [say("verify", "--local")]
    result = _verified(engine, image, command, source.keyring, tmpdir)
    return _accepted(image, result, fingerprints) if fingerprints else result


def _verified(engine: Engine, image: str, command: list[str], keyring: str | None, tmpdir: str | None) -> Verification:
    result = engine.run([*command, image], Setting(tmpdir, variables=keyring_variable(engine, keyring)), check=False)
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
    reason = reason_of(result)
    if any(words in reason for words in _UNSIGNED):
        return Unsigned(f"{image}: no signatures found: {reason}")
    if any(words in reason for words in _UNKNOWN):
        return UnknownSigner(f"{image}: no key that was given is that of a signer, or a signature is damaged: {reason}")
    if any(words in reason for words in _BAD):
        return BadSignature(f"{image}: it was changed after it was signed, or a signature is damaged: {reason}")
    return _failure_of_3_5(image, result) or EngineError(f"cannot verify {image}: {reason}")


def _failure_of_3_5(image: str, result: EngineResult) -> EngineError | None:
    """Find the reason, which 3.5 does not give: it says of each signature whether the data fits; else it is the key."""
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
