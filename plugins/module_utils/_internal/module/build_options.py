# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the files of a task shall be made: from a module's parameters to the choice of means."""

from __future__ import annotations

import functools
import os
import tempfile
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule

from ..engine.executable import kind_of
from ..late import importing
from ..sif.toolchain import AUTO, CMD, ENTRYPOINT, Choice

if TYPE_CHECKING:
    from ..engine.cli import Engine
    from ..sif.mksquashfs import Packer

_MAX_NICENESS = 19


def choice(module: AnsibleModule) -> Choice:
    """What the options of a build choose; engine and packer are looked for when first asked for."""
    parameters = module.params
    return Choice(
        builder=parameters["builder"],
        reproducible=parameters["reproducible"],
        command=CMD if parameters["use_cmd"] else ENTRYPOINT,
        tmpdir=parameters["tmpdir"] or tempfile.gettempdir(),
        inputs=_inputs(module),
        engine=functools.lru_cache(maxsize=None)(lambda: _engine(module)),
        engine_kind=functools.lru_cache(maxsize=None)(lambda: kind_of(parameters["engine"])),
        packer=functools.lru_cache(maxsize=None)(lambda: _packer(module)),
        mountable=functools.lru_cache(maxsize=None)(lambda: _mountable(module)),
    )


def be_nice(module: AnsibleModule) -> None:
    """Lower the priority of this process, and so of all that it starts."""
    niceness = module.params["niceness"]
    if not 0 <= niceness <= _MAX_NICENESS:
        module.fail_json(msg=f"niceness is {niceness}; it goes from 0 to {_MAX_NICENESS}, the lowest priority")
    os.nice(niceness)


def _engine(module: AnsibleModule) -> Engine:
    with importing:
        from ..engine import cli  # only a build needs it

    return cli.find(module.params["engine"])


def _packer(module: AnsibleModule) -> Packer:
    with importing:
        from ..sif import mksquashfs  # only a build needs it

    parameters = module.params
    memory = parameters["packer_memory"]
    return mksquashfs.find(
        parameters["compression"],
        parameters["compression_level"],
        parameters["packer_processors"],
        memory // 2**20 if memory else None,
    )


def _mountable(module: AnsibleModule) -> list[tuple[str, int | None]]:
    with importing:
        from ..sif import mksquashfs

    return mksquashfs.mountable(module.params["compression"], module.params["compression_level"])


def _inputs(module: AnsibleModule) -> dict[str, str]:
    """The inputs of a build that were asked for; what was not, stays as it was built."""
    compression, level = module.params["compression"], module.params["compression_level"]
    inputs = {"command": CMD if module.params["use_cmd"] else ENTRYPOINT}
    if compression != AUTO:
        inputs["compression"] = compression
    if level is not None:
        inputs["level"] = str(level)
    if module.params["reproducible"]:
        inputs["reproducible"] = "yes"
    return inputs
