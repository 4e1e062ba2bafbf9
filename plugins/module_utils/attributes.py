# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Owner, group and mode of a file, set by Ansible's own functions as its options ask for."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Any, Protocol

from ansible.module_utils.basic import AnsibleModule


class Placed(Protocol):
    """What became of an image and its file."""

    path: str | None
    changed: bool
    action: str
    attributes: dict[str, dict[str, Any]]

    @property
    def error(self) -> Exception | None:
        """Why nothing became of it."""


def check_owner(module: AnsibleModule) -> None:
    """Find out before anything is built that owner or group do not exist."""
    for key, known in (("owner", pwd.getpwnam), ("group", grp.getgrnam)):
        name = module.params[key]
        try:
            if name and not str(name).isdigit():
                known(name)
        except KeyError:
            module.fail_json(msg=f"there is no {'user' if key == 'owner' else 'group'} {name!r} on this host ({key})")


def prepare(module: AnsibleModule, path: str) -> None:
    """Give a new file its owner, group and mode before it gets its name."""
    module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params, path=path), False)


def set_attributes(module: AnsibleModule, outcome: Placed) -> None:
    """Owner, group and mode as the user wants them; in check mode also of a file that is there already."""
    if outcome.error or not outcome.path or not os.path.exists(outcome.path):
        return
    arguments = module.load_file_common_arguments(module.params, path=outcome.path)
    difference: dict[str, dict[str, Any]] = {}
    if module.set_fs_attributes_if_different(arguments, False, diff=difference):
        if not outcome.changed:
            outcome.changed, outcome.action = True, "attributes"
        outcome.attributes = {"before": difference.get("before", {}), "after": difference.get("after", {})}
