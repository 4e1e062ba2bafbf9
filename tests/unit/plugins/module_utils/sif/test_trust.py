# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is trusted, and why a file is not; the engine's own answers are tested with its signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import signature
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.signature import Signer, Verification
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    BadSignature,
    EngineError,
    InvalidSif,
    StorageError,
    UnknownSigner,
    Unsigned,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.trust import Source, Trust, report
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import written

ALICE = Signer("A" * 40, "Alice", True, ("FS",))


def trust(*keys: str) -> Trust:
    return Trust(tuple(Source(key) for key in keys), "mark", lambda: cast(Any, None), "/scratch")


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "image.sif"
    path.write_bytes(written())
    return str(path)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """What the engine raises with a key; with any other one it accepts the image."""
    told: dict[str, Exception] = {}

    def verify(_engine: object, path: str, **how: Any) -> Verification:
        assert how["tmpdir"] == "/scratch"
        if how["key"] in told:
            raise type(told[how["key"]])(f"{path}: {told[how['key']]}")
        return Verification(1, (ALICE,))

    monkeypatch.setattr(signature, "verify", verify)
    return told


def test_one_source_that_accepts_is_enough(image: str, answers: dict[str, Exception]) -> None:
    answers.update(bob=UnknownSigner("no key"), carol=EngineError("expired"))
    assert trust("bob", "carol", "alice").verify(image, "name").signers == (ALICE,)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ((UnknownSigner("one"),), UnknownSigner),
        ((UnknownSigner("one"), UnknownSigner("two")), UnknownSigner),
        ((UnknownSigner("one"), BadSignature("two")), BadSignature),
        ((EngineError("one"), Unsigned("two")), Unsigned),
        ((EngineError("one"), UnknownSigner("two")), EngineError),
    ],
)
def test_of_several_refusals_the_one_that_says_most_is_told(
    image: str, answers: dict[str, Exception], errors: tuple[Exception, ...], told: type[Exception]
) -> None:
    answers.update({str(number): error for number, error in enumerate(errors)})
    with pytest.raises(told) as error:
        trust(*answers).verify(image, "oras://host/app:1")
    assert error.type is told
    assert str(error.value).startswith("verification failed: oras://host/app:1: ")
    assert image not in str(error.value)


def test_what_is_no_sif_never_reaches_the_engine(tmp_path: Path, answers: dict[str, Exception]) -> None:
    path = tmp_path / "page.sif"
    path.write_bytes(b"<html>" * 100)
    with pytest.raises(InvalidSif, match=r"^verification failed: name is no SIF image$"):
        trust("alice").verify(str(path), "name")
    with pytest.raises(StorageError):
        trust("alice").verify(str(tmp_path / "absent"), "name")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "signed"),
        (Unsigned("no signatures found"), "unsigned"),
        (UnknownSigner("x"), "unknown_signer"),
        (BadSignature("x"), "damaged"),
        (EngineError("x"), "failed"),
    ],
)
def test_a_report_tells_the_states_apart(
    image: str, answers: dict[str, Exception], error: Exception | None, state: str
) -> None:
    if error:
        answers["alice"] = error
    told = report(trust("alice"), image)
    assert (told["path"], told["state"], told["verified"]) == (image, state, error is None)
    assert told["error"] == (f"verification failed: {image}: {error}" if error else None)
    signer = {"fingerprint": "A" * 40, "name": "Alice", "objects": ["FS"]}
    assert told["signers"] == ([] if error else [signer])


def test_a_report_of_what_is_not_there_or_no_sif(tmp_path: Path, answers: dict[str, Exception]) -> None:
    assert report(trust("alice"), str(tmp_path / "absent"))["state"] == "missing"
    (tmp_path / "page").write_bytes(b"<html>")
    assert report(trust("alice"), str(tmp_path / "page"))["state"] == "no_sif"
    with (tmp_path / "cut").open("wb") as stream:
        stream.write(written()[:-1])
    assert report(trust("alice"), str(tmp_path / "cut"))["state"] == "no_sif"


def test_a_sandbox_is_there_and_is_no_sif(tmp_path: Path, answers: dict[str, Exception]) -> None:
    (tmp_path / "box" / ".singularity.d").mkdir(parents=True)
    told = report(trust("alice"), str(tmp_path / "box"))
    assert told["state"] == "no_sif"
    assert told["error"].startswith(f"verification failed: {tmp_path}/box is a sandbox; only SIF files can be signed")
    assert f"{tmp_path} is a directory; only SIF" in report(trust("alice"), str(tmp_path))["error"]
