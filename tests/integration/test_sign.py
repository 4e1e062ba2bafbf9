# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signing, verifying, and pulling only what is signed, with the real engine, and keys of OpenSSL and GnuPG."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from .conftest import REGISTRY, Host

IMAGE = "lab/tiny:1.0"
KEYS = """
set -e
umask 077
rm -rf /tmp/keys-of-test-sign; mkdir -p /tmp/keys-of-test-sign/gpg; cd /tmp/keys-of-test-sign
for name in site other; do
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $name.key 2>/dev/null
  openssl pkey -in $name.key -pubout -out $name.pem
done
export GNUPGHOME=/tmp/keys-of-test-sign/gpg
gpg --batch --quiet --pinentry-mode loopback --passphrase 'open sesame' \
  --quick-generate-key 'Alice <alice@example.org>' rsa2048 default never 2>/dev/null
gpg --batch --armor --pinentry-mode loopback --passphrase 'open sesame' --export-secret-keys > alice.key
gpg --batch --armor --export > alice.asc
gpgconf --kill all
"""


@dataclass(frozen=True)
class Keys:
    """Paths of keys on a host, and the text of some."""

    site: str = "/tmp/keys-of-test-sign/site.key"
    site_public: str = "/tmp/keys-of-test-sign/site.pem"
    other_public: str = "/tmp/keys-of-test-sign/other.pem"
    alice: str = ""
    alice_public: str = "/tmp/keys-of-test-sign/alice.asc"


@pytest.fixture(scope="module")
def keys(hosts: tuple[Host, Host]) -> Iterator[Keys]:
    """Yield new keys, on the first host."""
    hosts[0].shell(KEYS)
    yield Keys(alice=hosts[0].shell("cat /tmp/keys-of-test-sign/alice.key").stdout)
    hosts[0].shell("rm -r /tmp/keys-of-test-sign")


def sign(host: Host, check: bool = False, **how: Any) -> dict[str, Any]:
    return host.module("hpc.sregistry.sregistry_sign", check=check, diff=True, **how)


def verify(host: Host, path: str, *sources: dict[str, Any], strict: bool = True) -> dict[str, Any]:
    return host.module("hpc.sregistry.sregistry_verify", path=path, verify=list(sources), strict=strict)


def test_a_pulled_image_is_signed_verified_and_left_alone_by_pull(node1: Host, keys: Keys) -> None:
    path = node1.sregistry("pull", IMAGE)["images"][0]["path"]
    unsigned = verify(node1, path, {"key": keys.site_public})
    assert unsigned["failed"]
    assert unsigned["msg"].startswith(f"verification failed: {path}: no signatures found")
    assert unsigned["images"][0]["state"] == "unsigned"

    how: dict[str, Any] = {"name": f"{REGISTRY}/{IMAGE}", "key": keys.site}
    foreseen = sign(node1, check=True, **how)
    assert verify(node1, path, {"key": keys.site_public}, strict=False)["images"][0]["state"] == "unsigned"
    first = sign(node1, **how)
    assert first["changed"], first
    assert first["diff"] == foreseen["diff"]
    assert len(first["images"][0]["signers"]) == 1
    assert not sign(node1, check=True, **how)["changed"]
    assert not sign(node1, **how)["changed"]
    node1.shell(f"apptainer verify --key {keys.site_public} {path}")
    assert not node1.sregistry("pull", IMAGE, checksum=True)["changed"]

    refused = verify(node1, path, {"key": keys.other_public}, strict=False)["images"][0]
    assert (refused["verified"], refused["state"]) == (False, "unknown_signer")
    assert verify(node1, path, {"key": keys.other_public}, {"key": keys.site_public})["images"][0]["verified"]

    again = sign(node1, path=path, key_content=keys.alice, passphrase="open sesame")
    assert again["changed"], again
    assert len(again["images"][0]["signers"]) == 2
    assert "open sesame" not in str(again)
    assert "PRIVATE KEY" not in str(again)
    wrong = sign(node1, path=path, key_content=keys.alice, passphrase="wrong")
    assert wrong["failed"]

    node1.shell(f"printf x | dd of={path} bs=1 seek=40000 conv=notrunc 2>/dev/null")
    laundered = sign(node1, path=path, key=keys.other_public.replace("pem", "key"))
    assert "is not what the inventory says, so it is not signed" in laundered["msg"]
    assert verify(node1, path, {"key": keys.site_public}, strict=False)["images"][0]["state"] == "damaged"
    assert node1.shell("ls -d /tmp/sregistry-*", check=False).stdout == ""


def test_only_what_is_signed_is_pulled(node1: Host, keys: Keys) -> None:
    name = f"oras://{REGISTRY}/signed/{uuid.uuid4().hex}:1"
    node1.sregistry("pull", IMAGE, dest="/tmp/image.sif")
    node1.shell(f"apptainer push --no-https /tmp/image.sif {name}")
    trusted: dict[str, Any] = {"verify": [{"key": keys.alice_public}]}
    refused = node1.sregistry("pull", name, **trusted)
    assert refused["msg"].startswith(f"verification failed: {name}: no signatures found")
    assert node1.shell("find ~/.singularity/shub/127.0.0.1_5000/signed -type f").stdout == ""
    unbuilt = node1.sregistry("pull", IMAGE, **trusted)
    assert "sign its file with sregistry_sign after the pull" in unbuilt["msg"]

    signed = sign(node1, path="/tmp/image.sif", key_content=keys.alice, passphrase="open sesame")
    assert signed["changed"], signed
    node1.shell(f"apptainer push --no-https /tmp/image.sif {name}")
    pulled = node1.sregistry("pull", name, **trusted)
    assert pulled["changed"], pulled
    fingerprint = signed["images"][0]["signers"][0]
    (image,) = verify(node1, pulled["images"][0]["path"], {"key": keys.alice_public, "fingerprints": [fingerprint]})[
        "images"
    ]
    assert image["signers"][0]["fingerprint"] == fingerprint

    documents = "~/.singularity/shub/.sregistry/images/*signed*"
    node1.shell(f"""sed -i 's/, "verified": "[0-9a-f]*"//' {documents}; ! grep '"verified"' {documents}""")
    assert not node1.sregistry("pull", name, check=True, **trusted)["changed"]
    assert not node1.sregistry("pull", name, **trusted)["changed"]
    node1.shell(f"""grep '"verified"' {documents}""")
    other = node1.sregistry("pull", name, verify=[{"key": keys.site_public}], pull="not_present")
    assert "verification failed" in other["msg"]
    node1.shell(f"test -f {pulled['images'][0]['path']}")
