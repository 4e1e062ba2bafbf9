# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signing and verifying by a stand-in for each version of the engines, with the words of the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import keyring, signature, signing
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.cli import Engine
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.keyring import PgpKey
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.signature import (
    Certificate,
    KeySource,
    VerifiedSigner,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.signing import SigningKey
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    BadSignature,
    EngineError,
    UnknownSigner,
    Unsigned,
)
from ansible_collections.hpc.sregistry.tests.unit.engines import standin
from ansible_collections.hpc.sregistry.tests.unit.engines.standin import StandIn

ALICE = "AEAAAC0B00D403A6104C53B87B8A5432491D9F50"
BOB = "5F41E895A66F8DA8B5FF072A90A0AFCD3141C373"

NEW_LIST = """Private key listing (/keys/pgp-secret):

0)  User:              Alice A. (work) <alice@example.org>
    BuildOutcome time:     2026-11-22 06:12:50 +0000 UTC
    Fingerprint:       {}
    Length (in bits):  4096

1)  User:              Bob () <bob@example.org>
    BuildOutcome time:     2026-11-22 06:13:23 +0000 UTC
    Fingerprint:       {}
    Length (in bits):  4096

"""
OLD_LIST = """Private key listing (/keys/pgp-secret):

0) U: Alice A. (work) <alice@example.org>
   C: 2026-11-22 06:12:50 +0000 UTC
   F: {}
   L: 4096
   --------
1) U: Bob () <bob@example.org>
   C: 2026-11-22 06:13:23 +0000 UTC
   F: {}
   L: 4096
   --------
"""
ONE_KEY = NEW_LIST.format(ALICE, BOB).partition("1)")[0]


@pytest.fixture(params=standin.LANDMARKS)
def version(request: pytest.FixtureRequest, tmp_path: Path) -> StandIn:
    """Return a stand-in for each landmark among the versions, in turn."""
    return standin.install(request.param, tmp_path / "engine")


@pytest.fixture
def newest(tmp_path: Path) -> StandIn:
    return standin.install("apptainer-1.4.5", tmp_path / "engine")


def engine_of(version: StandIn) -> Engine:
    return Engine(str(version.path), version.kind, version.version)


def arguments(version: StandIn) -> list[list[str]]:
    return [call["arguments"] for call in version.calls]


def signed(*signers: tuple[str, str], data: bool = True) -> str:
    """Return the output of ``verify --json`` for an image with these signatures, each by fingerprint and name."""
    entries = [
        {
            "Signer": {
                "Partition": part,
                "Name": name,
                "Fingerprint": fingerprint.lower(),
                "KeyLocal": bool(fingerprint),
                "KeyCheck": bool(fingerprint),
                "DataCheck": data,
            }
        }
        for fingerprint, name in signers
        for part in ("Def.FILE", "JSON.Generic", "JSON.Generic", "FS")
    ]
    return json.dumps({"Signatures": len(signers), "SignerKeys": entries or None})


@pytest.fixture
def pem(tmp_path: Path) -> str:
    path = tmp_path / "key.pem"
    path.write_text("-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n")
    return str(path)


@pytest.fixture(params=[b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n", b"\x99\x02\r\x04"], ids=["armored", "binary"])
def pgp(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / "key.asc"
    path.write_bytes(request.param)
    return str(path)


# Every version


def test_every_version_verifies_with_a_keyring(version: StandIn) -> None:
    version.answers("verify", signed((ALICE, "Alice <alice@example.org>")))
    result = signature.verify(engine_of(version), "/image", KeySource(keyring="/keys"), "/scratch")
    assert result.signatures == 1
    assert result.signers == (
        VerifiedSigner(ALICE, "Alice <alice@example.org>", True, ("Def.FILE", "JSON.Generic", "FS")),
    )
    (call,) = version.calls
    assert call["arguments"] == ["verify", "--json", "--local", "/image"]
    assert call["variables"]["APPTAINER_KEYSDIR" if version.kind == "apptainer" else "SINGULARITY_SYPGPDIR"] == "/keys"


def test_every_version_signs_with_a_key_of_a_keyring(version: StandIn) -> None:
    old = version.kind == "singularity" or version.version.startswith(("3.8", "3.9"))
    version.answers("key list", (OLD_LIST if old else NEW_LIST).format(ALICE, BOB))
    key = SigningKey(keyring="/keys", fingerprint=f"0x{BOB.lower()}", passphrase="pass phrase")
    signing.sign(engine_of(version), "/image", key)
    assert arguments(version) == [["key", "list", "--secret"], ["sign", "--keyidx", "1", "/image"]]
    assert str(version.calls[1]["input"]).startswith("pass phrase\npass phrase\n")
    assert "pass" not in str(version.calls[1]["arguments"]) + str(version.calls[1]["variables"])


def test_every_version_verifies_with_the_file_of_a_pgp_key(version: StandIn, pgp: str, tmp_path: Path) -> None:
    version.answers("key list", ONE_KEY)
    version.answers("verify", signed((ALICE, "Alice")))
    result = signature.verify(engine_of(version), "/image", KeySource(pgp), str(tmp_path))
    assert [signer.fingerprint for signer in result.signers] == [ALICE]
    assert arguments(version) == [
        ["key", "import", pgp],
        ["key", "list"],
        ["verify", "--json", "--local", "/image"],
    ]
    name = "APPTAINER_KEYSDIR" if version.kind == "apptainer" else "SINGULARITY_SYPGPDIR"
    keyrings = [call["variables"][name] for call in version.calls]
    assert len(keyrings) == 3 and len(set(keyrings)) == 1
    assert not Path(keyrings[0]).exists()


def test_pem_keys_are_for_the_versions_that_know_them(version: StandIn, pem: str) -> None:
    spoken = engine_of(version)
    version.answers("verify", signed(("", "unknown")))
    first = (1, 2) if version.kind == "apptainer" else (3, 11)
    certificate = Certificate("/leaf.pem", "/between.pem", "/root.pem", ocsp=True)
    if spoken.version_tuple >= first:
        signing.sign(spoken, "/image", SigningKey(pem, passphrase="pass phrase"))
        assert signature.verify(spoken, "/image", KeySource(pem)).signers[0].fingerprint == ""
        signature.verify(spoken, "/image", KeySource(certificate=certificate))
        assert arguments(version) == [
            ["sign", "--key", pem, "/image"],
            ["verify", "--json", "--key", pem, "/image"],
            [
                *("verify", "--json", "--certificate", "/leaf.pem", "--certificate-intermediates", "/between.pem"),
                *("--certificate-roots", "/root.pem", "--ocsp-verify", "/image"),
            ],
        ]
        assert version.calls[0]["input"] == "pass phrase"
    else:
        with pytest.raises(
            EngineError, match=r" does not know --key of sign; use SingularityCE 3\.11 or Apptainer 1\.2 "
        ):
            signing.sign(spoken, "/image", SigningKey(pem))
        with pytest.raises(EngineError, match=" does not know --key of verify; "):
            signature.verify(spoken, "/image", KeySource(pem))
        with pytest.raises(EngineError, match=" does not know --certificate of verify; "):
            signature.verify(spoken, "/image", KeySource(certificate=certificate))
        assert version.calls == []


def test_a_key_server_is_asked_only_where_one_is_given(version: StandIn) -> None:
    version.answers("verify", signed((ALICE, "Alice")))
    signature.verify(engine_of(version), "/image", KeySource(url="https://keys.example.org"))
    assert arguments(version) == [["verify", "--json", "--url", "https://keys.example.org", "/image"]]


# What is wrong with an image


INVALID = "signature object 4 not valid: "


@pytest.mark.parametrize(
    ("output", "said", "kind"),
    [
        (signed(), "signature not found for object group 1", Unsigned),
        ("", "error while searching for signature blocks: no signatures found for system partition", Unsigned),
        (signed(), INVALID + "openpgp: signature made by unknown entity", UnknownSigner),
        (signed(), INVALID + "dsse: verify envelope failed: accepted signatures do not match threshold", UnknownSigner),
        (signed(), "key material not provided for DSSE envelope signature", UnknownSigner),
        (signed(), INVALID + "openpgp: invalid data: tag byte does not have MSB set", BadSignature),
        (signed((ALICE, "Alice"), data=False), "data object integrity compromised: 3", BadSignature),
        (signed(), "SIF global header integrity compromised", BadSignature),
        (signed((ALICE, "unknown")), "/image", UnknownSigner),  # as 3.5 says it
        (signed((ALICE, "Alice"), data=False), "/image", BadSignature),
        (signed(), "reading global header: unexpected EOF", EngineError),
        ("", "open x: no such file or directory", EngineError),
    ],
)
def test_what_is_wrong_with_a_signature_is_told_apart(
    newest: StandIn, output: str, said: str, kind: type[EngineError]
) -> None:
    newest.answers("verify", output, f"INFO:    Verifying\nFATAL:   Failed to verify container: {said}\n", 255)
    with pytest.raises(EngineError) as error:
        signature.verify(engine_of(newest), "/image")
    assert error.type is kind
    assert "/image" in str(error.value)
    assert ("no signatures found" in str(error.value)) == (kind is Unsigned)


def test_an_image_without_a_verified_object_is_not_signed(newest: StandIn) -> None:
    newest.answers("verify", signed())
    with pytest.raises(Unsigned, match=r"^/image: no signatures found$"):
        signature.verify(engine_of(newest), "/image")


@pytest.mark.parametrize(
    "answer", ["", "[]", "{}", '{"Signatures": 1, "SignerKeys": [{}]}', '{"Signatures": 1, "SignerKeys": 7}']
)
def test_an_answer_that_is_no_verification_is_named(newest: StandIn, answer: str) -> None:
    newest.answers("verify", answer)
    with pytest.raises(EngineError, match="verify answered what is not its JSON: "):
        signature.verify(engine_of(newest), "/image")


def test_another_signer_than_the_accepted_ones_is_refused(newest: StandIn) -> None:
    newest.answers("verify", signed((ALICE, "Alice"), (BOB, "Bob")))
    spoken = engine_of(newest)
    assert len(signature.verify(spoken, "/image", KeySource(fingerprints=(ALICE.lower(), f"0x{BOB}"))).signers) == 2
    with pytest.raises(UnknownSigner) as error:
        signature.verify(spoken, "/image", KeySource(fingerprints=(ALICE,)))
    assert str(error.value) == f"/image: signed by {BOB} (Bob), not by {ALICE} alone"


def test_the_hosts_global_keyring_does_not_vouch_for_a_given_key(newest: StandIn, pgp: str, tmp_path: Path) -> None:
    newest.answers("key list", ONE_KEY)
    newest.answers("verify", signed((BOB, "Bob")))
    with pytest.raises(UnknownSigner, match=rf"signed by {BOB} \(Bob\), not by {ALICE} alone$"):
        signature.verify(engine_of(newest), "/image", KeySource(pgp), str(tmp_path))


# Keys


def test_a_pgp_key_in_a_file_signs_from_a_keyring_of_its_own(newest: StandIn, pgp: str, tmp_path: Path) -> None:
    newest.answers("key list", ONE_KEY)
    signing.sign(engine_of(newest), "/image", SigningKey(pgp, passphrase="pass phrase"), str(tmp_path))
    assert arguments(newest) == [
        ["key", "import", pgp],
        ["key", "list", "--secret"],
        ["sign", "--keyidx", "0", "/image"],
    ]
    assert str(newest.calls[0]["input"]).startswith("pass phrase\n")
    assert not list(tmp_path.glob("sregistry-*"))


@pytest.mark.parametrize(
    ("listing", "key", "message"),
    [
        ("", SigningKey(), "there is no secret PGP key in this user's keyring"),
        ("", SigningKey(keyring="/keys"), "there is no secret PGP key in the keyring /keys"),
        (ONE_KEY, SigningKey(fingerprint=BOB), f"there is no secret PGP key {BOB} in this user's keyring"),
    ],
)
def test_a_key_that_is_not_clear_is_asked_for(newest: StandIn, listing: str, key: SigningKey, message: str) -> None:
    newest.answers("key list", listing)
    with pytest.raises(EngineError) as error:
        signing.sign(engine_of(newest), "/image", key)
    assert str(error.value) == message


def test_of_several_keys_one_must_be_named(newest: StandIn) -> None:
    newest.answers("key list", NEW_LIST.format(ALICE, BOB))
    with pytest.raises(EngineError) as error:
        signing.sign(engine_of(newest), "/image", SigningKey())
    assert str(error.value) == (
        "there are several secret PGP keys in this user's keyring; say which by its fingerprint: "
        f"{ALICE} (Alice A. (work) <alice@example.org>), {BOB} (Bob () <bob@example.org>)"
    )


def test_keys_are_listed(newest: StandIn) -> None:
    newest.answers("key list", OLD_LIST.format(ALICE, BOB))
    assert keyring.keys(engine_of(newest), "/keys") == [
        PgpKey(0, ALICE, "Alice A. (work) <alice@example.org>"),
        PgpKey(1, BOB, "Bob () <bob@example.org>"),
    ]


@pytest.mark.parametrize(
    ("said", "status", "changed"),
    [
        ("", 0, True),
        (
            f"ERROR:   key import command failed: the key with fingerprint {ALICE} already belongs to the keyring\n",
            2,
            False,
        ),
    ],
)
def test_importing_a_key_tells_whether_it_was_new(
    newest: StandIn, pgp: str, said: str, status: int, changed: bool
) -> None:
    newest.answers("key import", errors=said, status=status)
    assert keyring.import_key(engine_of(newest), pgp, "/keys") is changed


def test_a_file_without_a_key_is_named(newest: StandIn) -> None:
    newest.answers("key import", errors="ERROR:   key import command failed: unable to get entity\n", status=2)
    with pytest.raises(EngineError) as error:
        keyring.import_key(engine_of(newest), "/key", "/keys", "s3cret")
    assert str(error.value) == "cannot import the key /key: key import command failed: unable to get entity"


def test_a_key_file_that_is_missing_is_named(newest: StandIn) -> None:
    with pytest.raises(EngineError, match=r"^cannot read the key /nonexistent: No such file or directory$"):
        signature.verify(engine_of(newest), "/image", KeySource("/nonexistent"))


def test_a_passphrase_shows_nowhere(newest: StandIn, pem: str) -> None:
    key = SigningKey(pem, passphrase="s3cret")
    newest.answers("sign", errors="FATAL:   it was s3cret: private key checksum failure\n", status=255)
    with pytest.raises(
        EngineError,
        match=r"; give the passphrase of the key. It said: FATAL:   it was \*{8}: private key checksum failure$",
    ):
        signing.sign(engine_of(newest), "/image", key)
    assert "s3cret" not in repr(key)
