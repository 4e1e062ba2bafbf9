# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of an image that the SIF cache does not have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.image_pull import ImagePull
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.outcome import PullOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.sif_cache_policy import search
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.toolchain import sif_inputs

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(("required", "action"), [(True, "failed"), (False, "")])
def test_a_miss_is_in_the_result_also_where_it_is_an_error(required: bool, action: str) -> None:
    """The role prestage foresees by it, in check mode, what the host that goes first will have put there."""
    cache: Any = SimpleNamespace(required=required, get=lambda _keys: None, warnings=list)
    toolchain = SimpleNamespace(acceptable_inputs=[sif_inputs("entrypoint", "zstd", 3, True, "apptainer")])
    request: Any = SimpleNamespace(toolchain=toolchain)
    platform = Platform.parse("linux/amd64")
    session: Any = SimpleNamespace(platform=platform)
    job = ImagePull(session, request, PullOutcome(Reference.parse("lab/tiny:1"), platform), "/store/tiny.sif")
    with job.outcome.catching():
        job.cached = search(job, cache, DIGEST)
    result = job.conclude().to_result("lab/tiny:1")
    assert (result["sif_cache"], result["action"]) == ("miss", action)
    assert ("sif_cache_miss: fail forbids" in result.get("error", "")) == required
