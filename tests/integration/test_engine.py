# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine's own work, by the real one of a host: building, running, signing, verifying."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Host

LIBRARY = Path(__file__).parents[2] / "plugins" / "module_utils"
PACKAGE = "ansible_collections/hpc/sregistry/plugins/module_utils"


@pytest.fixture(scope="module", params=["root", "hpc"])
def used(request: pytest.FixtureRequest, hosts: tuple[Host, Host]) -> dict[str, Any]:
    """Use the engine as one of the users, and return all results: each is a value, or an error's name and words."""
    host = hosts[0].as_user(request.param)
    directory = f"/tmp/sregistry-engine-{request.param}"
    script = (Path(__file__).parent / "use_engine.py").read_text()
    host.shell(f"rm -rf {directory}; mkdir -m 700 {directory}")
    try:
        host.copy_directory(str(LIBRARY), f"{directory}/{PACKAGE}")
        done = host.shell(f"cd {directory} && {host.python} -B - <<'END-OF-SCRIPT'\n{script}\nEND-OF-SCRIPT")
    finally:
        host.shell(f"rm -rf {directory}")
    assert "s3cret" not in done.stdout and "wr0ng" not in done.stdout
    return dict(json.loads(done.stdout))


def test_the_table_promises_nothing_that_the_engine_lacks(used: dict[str, Any]) -> None:
    assert used["lacking"] == []


def test_images_are_built_from_registries_and_definitions(used: dict[str, Any]) -> None:
    built = used["build"]
    assert built["plain"] == built["private"] == built["definition"] == []
    assert built["wrong password"][0] == "EngineError"
    assert built["wrong password"][1].partition(". It said: ")[0].endswith("; give a login that may read this image")
    assert "unused build args: spare" in built["unused argument"][1]


def test_a_command_runs_in_an_image_with_the_variables_as_given(used: dict[str, Any]) -> None:
    for way in ("said", "said by variables", "said without evaluation"):
        assert used["run"][way] == used["run"]["wanted"]
    assert used["run"]["definition"] == 'a, "b" = c'


def signers(verification: Any) -> set[str]:
    assert isinstance(verification, dict), verification
    assert all("FS" in signer["objects"] for signer in verification["signers"])
    return {signer["fingerprint"] for signer in verification["signers"]}


def test_signatures_are_made_and_verified_with_every_kind_of_key(used: dict[str, Any]) -> None:
    made = used["sign"]
    alice, bob = made["alice"], made["bob"]
    assert {made[f"sign {name}.sif"] for name in ("pem", "alice", "bob", "both")} == {None}
    assert made["secret key in a file"] is None
    assert {
        name: signers(made[f"verify: {name}"])
        for name in ("pem", "certificate", "keyring", "accepted", "two signatures", "key in a file")
    } == {
        "pem": {""},
        "certificate": {""},
        "keyring": {alice},
        "accepted": {bob},
        "two signatures": {alice, bob},
        "key in a file": {bob},
    }
    assert made["verify: two signatures"]["signatures"] == 2
    assert made["import"] == [True, False]


def test_what_is_wrong_with_a_signature_or_key_is_told_apart(used: dict[str, Any]) -> None:
    made = used["sign"]
    kinds = {
        "unsigned": "Unsigned",
        "unsigned, by pem": "Unsigned",
        "wrong pem": "UnknownSigner",
        "pem by keyring": "UnknownSigner",
        "empty keyring": "UnknownSigner",
        "not accepted": "UnknownSigner",
        "damaged": "BadSignature",
        "damaged, by pem": "BadSignature",
        "no image": "EngineError",
    }
    assert {name: made[f"verify: {name}"][0] for name in kinds} == kinds
    assert made["verify: unsigned"][1].startswith("plain.sif: no signatures found")
    assert made["wrong passphrase"][1].partition(". It said: ")[0].endswith("; give the passphrase of the key")
    assert made["import of no key"][0] == "EngineError"
