# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trust in signers, and the reasons against a file; the engine's own answers are tested with its signatures."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    BadSignature,
    EngineError,
    InvalidSif,
    StorageError,
    UnknownSigner,
    Unsigned,
)
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.trusted import ALICE, answers, image, trust

__all__ = ["answers", "image"]  # fixtures


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
    with pytest.raises(InvalidSif, match=r"^verification failed: name is not a SIF image$"):
        trust("alice").verify(str(path), "name")
    with pytest.raises(StorageError):
        trust("alice").verify(str(tmp_path / "absent"), "name")
