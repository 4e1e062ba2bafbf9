# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports on files: which are signed, by whom, and why others are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    BadSignature,
    EngineError,
    UnknownSigner,
    Unsigned,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.verify import (
    verification_report as report,
)
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import written
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.trusted import answers, image, trust

__all__ = ["answers", "image"]  # fixtures


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
