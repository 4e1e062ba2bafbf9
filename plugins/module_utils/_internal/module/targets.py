# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that a task is about: from names in the inventory, and paths, to paths."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule

from ..errors import InventoryError, StorageError
from ..inventory.database import Inventory
from ..inventory.trusted import need_readable, need_trusted
from ..oci.platform import Platform
from ..oci.reference import Reference, parse_registry
from .base import platform_of


def targets_of(module: AnsibleModule, inventory: Inventory, changing: bool = False) -> list[str]:
    """Return the paths of all files, those of names first, each once.

    :param changing: they are to be changed, and not only looked at.
    :raises InvalidReference, InvalidPlatform, InventoryError: if a name is malformed, or has no file.
    :raises StorageError: if a path is relative.
    """
    registry = parse_registry(module.params["registry"])
    platform = platform_of(module) or Platform.host()
    paths: dict[str, None] = {}
    for name in module.params["name"] or ():
        reference = Reference.parse_known(name, registry)
        document = inventory.get(reference, platform)
        if document is None or not document.files:
            raise InventoryError(
                f"the inventory {inventory.directory} knows no file of {reference} for {platform}; pull it first, or "
                "give the path of a file"
            )
        for file in document.files:
            need_readable(inventory, document, file.path)
            if changing:
                need_trusted(inventory, document, file.path, "give the path of the file if it is meant")
            paths[file.path] = None
    for path in module.params["path"] or ():
        if not path.startswith("/"):
            raise StorageError(f"{path!r} is no absolute path; write it with a leading '/'")
        paths[os.path.normpath(path)] = None
    return list(paths)
