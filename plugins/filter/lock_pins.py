# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``lock_pins``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lock_pins
short_description: The pins that a lock file has for a list of images
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Reads a lock file, and refuses an image that is not in it. Names are read as the modules read them.
  - A lock that names no image is refused, and so is a file that is empty, is not YAML, has a key twice, as after a
    merge that kept both sides, or pins a name to something else than a digest. The message names path and line.
  - The role P(hpc.sregistry.prestage#role) reads its lock with it.
positional: _input
options:
  _input:
    description:
      - The text of a lock file; or its content as a dictionary with the key C(images), or what stands below that. Only
        a text tells lines, and keys that are there twice.
    type: raw
    required: true
  images:
    description:
      - The names of images that must be in it. Without it, all its names are meant.
    type: list
    elements: str
  registry:
    description:
      - The registry of names that name none.
    type: str
    default: docker.io
  path:
    description:
      - The path of the file, for messages.
    type: str
    default: the lock
"""

EXAMPLES = r"""
- name: Pull what the lock file says
  hpc.sregistry.sregistry_pull:
    name: "{{ locked | list }}"
    digests: "{{ locked }}"
  vars:
    lock: images.lock.yml
    names: [quay.io/org/solver:2.4]
    locked: "{{ lookup('ansible.builtin.file', lock) | hpc.sregistry.lock_pins(names, path=lock) }}"
"""

RETURN = r"""
_value:
  description:
    - By name, as it stands in O(images), what it is pinned to, as the option
      O(hpc.sregistry.sregistry_pull#module:digests) takes it.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._internal.errors import InvalidReference
from ..module_utils._internal.oci.reference import DOCKER_HUB, Reference, parse_registry
from ..module_utils._internal.text import shown
from ..plugin_utils._internal.user_input.lock_file import AGAIN, IMAGES, InvalidLock, read_lock

_MAX_NAMED = 10


def lock_pins(
    lock: Any, images: Sequence[str] | None = None, registry: str = DOCKER_HUB, path: str = "the lock"
) -> dict[str, Any]:
    """Return the part of a lock that is about some images.

    :param lock: the text of a lock file, or its content.
    :param path: of the file, for errors.
    :raises AnsibleFilterError: if it cannot be read, or lacks one of them.
    """
    try:
        host = parse_registry(registry)
        entries = _entries(lock, path, host)
        pins = {Reference.parse(str(name), host): (str(name), entry) for name, entry in entries.items()}
        wanted = {name: Reference.parse(name, host) for name in images} if images is not None else None
    except InvalidLock as error:
        raise AnsibleFilterError(str(error)) from None
    except InvalidReference as error:
        raise AnsibleFilterError(f"{path}: {error}") from error
    if wanted is None:
        return dict(pins.values())
    # A query may be a secret, which a reference does not show.
    missing = [str(one) if one.query else name for name, one in wanted.items() if one not in pins]
    if missing:
        more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        raise AnsibleFilterError(
            f"{path} does not know {', '.join(missing[:_MAX_NAMED])}{more}; lock them with the playbook "
            "hpc.sregistry.lock, or take them from the list"
        )
    return {name: pins[reference][1] for name, reference in wanted.items()}


def _entries(lock: Any, path: str, registry: str) -> Mapping[Any, Any]:
    if isinstance(lock, str):
        return read_lock(str(lock), str(path), registry)
    entries = lock.get(IMAGES, lock) if isinstance(lock, Mapping) else None
    if not isinstance(entries, Mapping):
        raise InvalidLock(
            f"{path}: {shown(lock, 80)!r} is not a lock; it must be a dictionary with the key images, as the playbook "
            "hpc.sregistry.lock writes it"
        )
    if not entries:
        raise InvalidLock(f"{path} names no image, so that nothing is locked; restore it, or {AGAIN}")
    return entries


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"lock_pins": lock_pins}
