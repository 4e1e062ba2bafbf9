# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imported once, by the process that forks for each playbook, see ``playbooks.py``.

It reads what every playbook would read again: Ansible itself, the plugins that are always loaded, and their
documentation, which is where Ansible has their options from.
"""

from __future__ import annotations

import gc
import importlib
import warnings

from ansible import constants
from ansible.plugins import loader

_IMPORTED = [
    "ansible.cli.playbook",
    "ansible.executor.module_common",
    "ansible.executor.playbook_executor",
    "ansible.executor.task_queue_manager",
    "ansible.plugins.action.normal",
    "ansible.plugins.callback.default",
    "ansible.plugins.connection.ssh",
    "ansible.plugins.strategy.linear",
    "ansible_collections.ansible.builtin",
    "ansible_collections.hpc.sregistry",
]


def _read() -> None:
    loader.init_plugin_loader()
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")
    for name in _IMPORTED:
        importlib.import_module(name)
    for kind in ("connection", "shell", "become", "callback", "vars"):
        list(getattr(loader, f"{kind}_loader").all(class_only=True))
    for name in constants.INVENTORY_ENABLED:
        loader.inventory_loader.get(name)
    for kind, name in (("cache", "memory"), ("callback", "default"), ("action", "normal"), ("strategy", "linear")):
        getattr(loader, f"{kind}_loader").get(name, class_only=True)


_read()
gc.freeze()  # a collection in a fork leaves alone what is shared, and so it stays shared
