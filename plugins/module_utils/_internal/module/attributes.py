# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Owner, group and mode of a file, set by Ansible's own functions as its options ask for."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..fs import guard
from ..fs.files import storage_error
from ..inventory.outcome import Outcome
from ..late import importing


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
    _set(module, path, {}, "")


def set_attributes(module: AnsibleModule, outcome: Outcome, kept: str = "") -> None:
    """Set owner, group and mode as the user wants them; in check mode also of a file that is there already.

    :param kept: another name that the file may have, in the cache.
    """
    if outcome.error or not outcome.path or not os.path.exists(outcome.path):
        return
    difference: dict[str, dict[str, Any]] = {}
    with outcome.catching():
        if _set(module, outcome.path, difference, kept):
            if not outcome.changed:
                outcome.changed, outcome.action = True, "attributes"
            outcome.attributes = {"before": difference.get("before", {}), "after": difference.get("after", {})}


def _set(module: AnsibleModule, path: str, difference: dict[str, dict[str, Any]], kept: str) -> bool:
    """Set what differs; returns whether something does.

    Ansible's own functions take a path, under which others may put another file meanwhile. Where they could, root lets
    them only say what differs, and sets owner, group and mode by a descriptor.
    """
    arguments = module.load_file_common_arguments(module.params, path=path)
    if os.geteuid() != guard.ROOT:
        return bool(module.set_fs_attributes_if_different(arguments, False, diff=difference))
    if not _differs(module, arguments, difference):
        return False
    try:
        with importing:
            from ..fs.permit import changing
        with changing(path, kept) as descriptor:
            if module.check_mode:
                return True
            if descriptor is not None:
                new = difference.get("after", {})
                os.fchown(descriptor, new.get("owner", -1), new.get("group", -1))
                if "mode" in new:
                    os.fchmod(descriptor, int(new["mode"], 8))
                arguments = {**arguments, "owner": None, "group": None, "mode": None}
            module.set_fs_attributes_if_different(arguments, False)
    except OSError as error:
        raise storage_error(error, path) from error
    return True


def _differs(module: AnsibleModule, arguments: dict[str, Any], difference: dict[str, dict[str, Any]]) -> bool:
    check, module.check_mode = module.check_mode, True
    try:
        return bool(module.set_fs_attributes_if_different(arguments, False, diff=difference))
    finally:
        module.check_mode = check
