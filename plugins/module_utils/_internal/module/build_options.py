# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a build: from a module's parameters to the toolchain."""

from __future__ import annotations

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ..sif.toolchain import AUTO, CMD, ENTRYPOINT, Toolchain

_MAX_NICENESS = 19


def toolchain_of(module: AnsibleModule) -> Toolchain:
    """Return the toolchain that the options of a build choose."""
    parameters = module.params
    compression, memory = parameters["compression"], parameters["packer_memory"]
    return Toolchain(
        tmpdir=parameters["tmpdir"] or tempfile.gettempdir(),
        builder=parameters["builder"],
        command=CMD if parameters["use_cmd"] else ENTRYPOINT,
        reproducible=parameters["reproducible"],
        executable=parameters["engine"],
        compression=None if compression == AUTO else compression,
        level=parameters["compression_level"],
        processors=parameters["packer_processors"],
        memory=memory // 2**20 if memory else None,
    )


def be_nice(module: AnsibleModule) -> None:
    """Lower the priority of this process, and so of all that it starts."""
    niceness = module.params["niceness"]
    if not 0 <= niceness <= _MAX_NICENESS:
        module.fail_json(msg=f"niceness is {niceness}; it goes from 0 to {_MAX_NICENESS}, the lowest priority")
    os.nice(niceness)
