# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A trust whose engine says what a test tells it, and a file to verify."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import signature
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.signature import (
    KeySource,
    Verification,
    VerifiedSigner,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.trust import Trust
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import written

ALICE = VerifiedSigner("A" * 40, "Alice", True, ("FS",))


def trust(*keys: str) -> Trust:
    made = Trust(tuple(KeySource(key) for key in keys), "mark", tmpdir="/scratch")
    vars(made)["engine"] = None  # it is not run
    return made


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "image.sif"
    path.write_bytes(written())
    return str(path)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """Return the engine's errors by key; with any other one it accepts the image."""
    told: dict[str, Exception] = {}

    def verify(_engine: object, path: str, source: KeySource, tmpdir: str) -> Verification:
        assert tmpdir == "/scratch"
        if source.key in told:
            raise type(told[source.key])(f"{path}: {told[source.key]}")
        return Verification(1, (ALICE,))

    monkeypatch.setattr(signature, "verify", verify)
    return told
