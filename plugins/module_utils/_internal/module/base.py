# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""Common parts of all modules: errors as failures, the inventory, and the facts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ..engine.executable import engine_kind, home_of
from ..errors import SregistryError
from ..fs import guard
from ..inventory.database import SUBDIRECTORY, Inventory
from ..inventory.document import Document
from ..late import importing
from ..oci.platform import Platform
from ..secrecy import hidden

_MANY_DOCUMENTS = 1000
_MANY_NAMES = 20

SHORTEST_SECRET = 8
"""Characters; to hide a shorter secret in all results would hide half of them."""


@contextmanager
def failing(module: AnsibleModule) -> Iterator[None]:
    """Report an error of this library as the failure of the task, in its own words. Clean up first when told to end.

    All that the module says meanwhile is legible, so that no file name makes a task fail whose work is done, and
    without secrets.
    """
    for name in ("exit_json", "fail_json", "warn"):
        setattr(module, name, _fit(module, getattr(module, name)))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        yield
    except SregistryError as error:
        module.fail_json(msg=str(error))


def _fit(module: AnsibleModule, say: Callable[..., None]) -> Callable[..., None]:
    def said(*words: Any, **result: Any) -> None:
        # Ansible knows the secrets of options only. Whatever a registry wrote into a result may hold those of a file.
        module.no_log_values.update(hidden(SHORTEST_SECRET))
        say(*legible(words), **legible(result))

    return said


def legible(value: Any) -> Any:
    """Return a module's words with an escape for each byte of a file name that is not UTF-8: Ansible refuses those."""
    if isinstance(value, str):
        return value if value.isascii() else _escaped(value)
    if isinstance(value, dict):
        return {legible(name): legible(part) for name, part in value.items()}
    return [legible(part) for part in value] if isinstance(value, (list, tuple)) else value


def _escaped(text: str) -> str:
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair, which no file name has
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def inventory_of(module: AnsibleModule) -> Inventory:
    """Return the inventory that the options name."""
    storage = module.params["storage"]
    return Inventory(module.params["database"] or os.path.join(storage, SUBDIRECTORY), storage)


def blob_directory(module: AnsibleModule) -> str:
    """Return the engine's own cache of blobs.

    :raises StorageError: if another user's symlink leads there.
    """
    root = module.params["cachedir"]
    if not root:
        root = os.path.expanduser(f"~/{home_of(engine_kind(module.params.get('engine')))}")
    directory = os.path.join(root, "cache", "blob")
    with importing:
        from ..oci.blobs import ALGORITHMS
    for algorithm in ALGORITHMS:
        guard.need_way(os.path.join(directory, "blobs", algorithm, "any"), root)
    return directory


def platform_of(module: AnsibleModule) -> Platform | None:
    """Return the platform that the options name; None if they name none.

    :raises InvalidPlatform: if it is malformed.
    """
    system, architecture = module.params["os"], module.params["architecture"]
    if module.params["platform"]:
        return Platform.parse(module.params["platform"])
    if not system and not architecture:
        return None
    host = Platform.host()
    return Platform.parse(f"{system or host.os}/{architecture or host.architecture}")


def facts_of(module: AnsibleModule, inventory: Inventory, rows: list[dict[str, Any]], complete: bool) -> dict[str, Any]:
    """Return ``ansible_facts`` with rows of the inventory.

    :param complete: whether they are all of it.
    """
    return {
        "sregistry": {
            "storage": module.params["storage"],
            "database": inventory.directory,
            "images": rows,
            "complete": complete,
        }
    }


def facts_after(module: AnsibleModule, inventory: Inventory, documents: Iterable[Document]) -> dict[str, Any]:
    """Return the whole inventory or, where it is so large that it would burden the controller, these documents."""
    gather = module.params["gather"]
    if not module.check_mode:
        inventory.tidy()
    try:
        if gather == "all" or (gather == "auto" and inventory.count() <= _MANY_DOCUMENTS):
            return facts_of(module, inventory, inventory.rows(), True)
    except SregistryError as error:  # the work is done, and its result must not be lost
        module.warn(str(error))
    return facts_of(module, inventory, [row for document in documents for row in document.rows()], False)


def failure(failed: Sequence[tuple[object, object]], total: int, check: bool) -> str:
    """Write the message of a task in which some images failed: each cause once, first the one of most images.

    :param failed: the name of each, and why.
    """
    if total == 1:
        return str(failed[0][1])
    concerned: dict[str, list[tuple[object, object]]] = {}
    for name, error in failed:
        concerned.setdefault(getattr(error, "cause", str(error)), []).append((name, error))
    words = "; ".join(
        f"{cause}; this concerns {_listed([name for name, _error in alike])}"
        if len(alike) > 1
        else f"{alike[0][0]}: {alike[0][1]}"
        for cause, alike in sorted(concerned.items(), key=lambda item: -len(item[1]))
    )
    others = "" if len(failed) == total else ", the others would be done" if check else ", the others are done"
    return f"{len(failed)} of {total} images failed{others}. {words}"


def _listed(names: list[object]) -> str:
    """List names in a message; each of them is in the result, with its error."""
    more = f" and {len(names) - _MANY_NAMES} more" if len(names) > _MANY_NAMES else ""
    return ", ".join(map(str, names[:_MANY_NAMES])) + more


def warn_without_inventory(module: AnsibleModule, inventory: Inventory) -> None:
    """Warn where there is no inventory yet: its options may name another place than those of earlier tasks."""
    if not os.path.isdir(inventory.directory):
        module.warn(f"there is no inventory in {inventory.directory}; nothing was pulled or recorded there")
