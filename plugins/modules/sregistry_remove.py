#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_remove
short_description: Remove container images, all but some, or what the cache keeps for none
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Removes images from the inventory and their files from the disk, one of the two, or everything except a list.
  - It can prune the cache of layers as well.
  - It answers to C(sregistry rmi), and with O(state=forgotten) to C(sregistry rm). No registry is asked for anything.
extends_documentation_fragment:
  - hpc.sregistry.naming
  - hpc.sregistry.gather
  - hpc.sregistry.attributes
  - hpc.sregistry.store
attributes:
  check_mode:
    details:
      - Nothing is removed. The changed status, the lists and the difference are those of the real run.
  diff_mode:
    details:
      - Shows each image that goes, with path and SHA-256 of each of its files, each file that is swept, and what is
        pruned.
options:
  name:
    description:
      - The images to remove, by name, or by patterns with C(*) and C(?) that a name in its canonical form follows, such
        as V(quay.io/org/*) or V(ubuntu:*). V(*) is every image.
      - A name that the inventory does not know is not an error.
    type: list
    elements: str
    aliases: [uri, image]
  keep:
    description:
      - Remove every image that none of these names and patterns means.
      - An empty list is refused, and one that means no image of the inventory is without O(force=true). A single entry
        that means none is a warning. To remove every image, give V(*) as O(name).
    type: list
    elements: str
  sweep:
    description:
      - Remove also each file below O(storage) whose name ends in C(.sif), C(.simg) or C(.img), that is an image or was
        to become one, and that no image of the inventory has, not even by a symlink. It makes O(storage) what the
        inventory says.
      - An image is a SIF, a squashfs, or an ext file system behind the interpreter line of Singularity 2. One that is
        truncated goes too, and so does an empty file. A warning names other files with such a name, as the disks of
        virtual machines, overlays and notes. They stay.
      - A directory with a C(.sregistry) of its own is another store, and is not entered. Nothing is swept where
        O(storage) has one, and O(database) is another inventory.
      - It removes also the hidden files and directories that killed tasks of this user left below O(storage), if
        nobody holds them. Those of this host go after a minute, those of others after a day.
    type: bool
    default: false
  state:
    description:
      - What must be left of the images.
      - V(absent) leaves nothing.
      - V(forgotten) leaves the files, and the inventory does not know them any more.
      - V(recorded) leaves the entry in the inventory, as M(hpc.sregistry.sregistry_record) makes it, without a file.
    type: str
    choices: [absent, forgotten, recorded]
    default: absent
  links:
    description:
      - Symlinks outside of O(storage) by which people use images, such as V(/opt/images/solver.sif), and directories
        that hold such symlinks.
      - A file that a symlink leads to stays, so that nobody meets a link to nothing. Symlinks anywhere below
        O(storage), and in the directory of a file that is to go, are found without this option, but not those in
        another store.
      - An image that a pattern or O(keep) would remove then stays whole, its RV(images[].action) is V(kept), and a
        warning names the symlink. One that O(name) names itself is an error, unless O(force=true).
      - What is not there does not matter.
    type: list
    elements: path
    default: []
  platform:
    description:
      - Remove images of this platform only, for example V(linux/arm64). The default is every platform.
    type: str
  force:
    description:
      - Remove also a file whose content is not that any more which was built or added, or that is no image. Somebody
        put it there, or a crash damaged it, and without this option the task fails.
      - Size and modification time tell whether the content is the same, unless others than root and this user may
        write the inventory. Then each file that is to go is read, and its SHA-256 compared.
      - Remove every image though O(keep) means none.
      - Remove an image that O(name) names itself though a symlink leads to its file, see O(links).
    type: bool
    default: false
  cache:
    description:
      - V(prune) removes from the cache each layer that belongs to no image with a file in this inventory, and the files
        that are kept there for images that are gone. It fails if another task uses the cache meanwhile.
      - What C(apptainer pull) left there goes too, and layers that only the inventory of another store needs. Both
        are fetched again when they are needed. Do not prune while C(apptainer) itself pulls.
      - V(keep) leaves it as it is.
    type: str
    choices: [keep, prune]
    default: keep
  cachedir:
    description:
      - Root of the cache, as with M(hpc.sregistry.sregistry_pull).
      - If the option is not given, the first of E(APPTAINER_CACHEDIR) and E(SINGULARITY_CACHEDIR) that is set on the
        managed host is used. Without any, it is C(~/.apptainer) where the engine is Apptainer, else
        C(~/.singularity).
    type: path
notes:
  - A file that is in use can be removed. Containers that run from it go on, and the space is free when they end.
  - A file that two images have stays as long as one of them does.
  - The inventory says which files go. As root, better do not work with one that other users can write. Without
    O(force=true) it can only make root remove images, and only those whose SHA-256 its writer knows.
  - A file that another image has by a symlink stays, as does each symlink on the way to it.
  - A byte of a file name that is not UTF-8 is shown as an escape, such as C(\xff), in all that modules return.
  - Files go, and directories that an engine has built. Other directories that become empty stay, as another task may
    be about to build in them.
seealso:
  - module: hpc.sregistry.sregistry_facts
  - module: hpc.sregistry.sregistry_rename
"""

EXAMPLES = r"""
- name: An image and its file are gone
  hpc.sregistry.sregistry_remove:
    name: docker://ubuntu:22.04

- name: All old releases of one repository are gone
  hpc.sregistry.sregistry_remove:
    name: quay.io/org/solver:1.*

- name: Forget an image, and leave its file to somebody else
  hpc.sregistry.sregistry_remove:
    name: tools/mesher:1.9
    state: forgotten

- name: Make room, and remember what was there
  hpc.sregistry.sregistry_remove:
    name: quay.io/org/*
    state: recorded
    cache: prune

- name: The store has the images of this campaign and nothing else
  hpc.sregistry.sregistry_remove:
    storage: /local/images
    keep: "{{ campaign_images }}"
    sweep: true
    cache: prune
  become: true

- name: Prune the cache, and remove no image
  hpc.sregistry.sregistry_remove:
    cache: prune
"""

RETURN = r"""
images:
  description: What became of each image that is meant, and of each name that means none.
  returned: always, unless the task fails before any image is looked at
  type: list
  elements: dict
  contains:
    name:
      description: The name or pattern as it was given. With O(keep), the name in its canonical form.
      type: str
      sample: docker://ubuntu:22.04
    reference:
      description: The name in its canonical form. Null for a pattern that means no image.
      type: str
      sample: library/ubuntu:22.04
    platform:
      description: The platform of the image. Null if there was none.
      type: str
      sample: linux/amd64
    changed:
      description: Whether something was removed, or would be in check mode.
      type: bool
      sample: true
    action:
      description:
        - V(absent) means that there was no such image.
        - V(removed) means that the image and its files are gone.
        - V(forgotten) means that the entry is gone.
        - V(unbuilt) means that the files are gone.
        - V(present) means that with O(state=recorded) there was no file to remove.
        - V(kept) means that it stays, since a symlink leads to its file, see O(links).
        - V(failed) means that there is an RV(images[].error).
      type: str
      sample: removed
    path:
      description: Path of the newest file that it had. Null if it had none.
      type: str
      sample: /var/lib/sregistry/library/ubuntu-22.04.sif
    files:
      description: The files that were removed.
      returned: if there was such an image
      type: list
      elements: str
      sample: [/var/lib/sregistry/library/ubuntu-22.04.sif]
    size:
      description: Size of the newest file in bytes. Null if it had none.
      type: int
      sample: 29454336
    sha256:
      description: The SHA-256 of the newest file. Null if it had none.
      type: str
      sample: aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56
    error:
      description: Why it failed.
      returned: if it failed
      type: str
      sample: cannot use /shared/images; Permission denied
swept:
  description: The files that no image had and that were removed, then what killed tasks had left.
  returned: with O(sweep=true)
  type: list
  elements: str
  sample: [/local/images/old.sif]
pruned:
  description: What was removed from the cache.
  returned: with O(cache=prune)
  type: dict
  contains:
    blobs:
      description: How many blobs and kept files.
      type: int
      sample: 12
    bytes:
      description: Their size. A kept file that is in the store as well takes no room of its own.
      type: int
      sample: 734003200
ansible_facts:
  description: The inventory after the task, in short form, as M(hpc.sregistry.sregistry_facts) returns it.
  returned: success
  type: dict
  contains:
    sregistry:
      description: The inventory of this store.
      type: dict
      sample: {storage: /var/lib/sregistry, database: /var/lib/sregistry/.sregistry, complete: true, images: []}
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.errors import SregistryError
from ..module_utils._internal.inventory.database import Inventory
from ..module_utils._internal.inventory.links import Places, need_absolute
from ..module_utils._internal.inventory.selector import Selector
from ..module_utils._internal.manage.outcome import ABSENT
from ..module_utils._internal.manage.remove import FORGOTTEN, STATES, RemoveOutcome, RemoveRequest, meaningless, remove
from ..module_utils._internal.manage.sweep import prune_cache, sweep_store
from ..module_utils._internal.module.base import blob_directory, failing, inventory_of
from ..module_utils._internal.module.local_images import BesideImages, finish_changes
from ..module_utils._internal.module.options import (
    cache_options,
    default_registry_options,
    gather_options,
    store_options,
)
from ..module_utils._internal.oci.blobs import BlobCache
from ..module_utils._internal.oci.platform import Platform
from ..module_utils._internal.oci.reference import parse_registry

_KEEP = "keep"
_PRUNE = "prune"
_NAMED = 5  # files that a warning names


def main() -> None:
    """Remove images."""
    module = AnsibleModule(
        {
            **default_registry_options(),
            **store_options(),
            **gather_options(),
            **cache_options(),
            "name": {"type": "list", "elements": "str", "aliases": ["uri", "image"]},
            "keep": {"type": "list", "elements": "str"},
            "sweep": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": list(STATES), "default": ABSENT},
            "platform": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "links": {"type": "list", "elements": "path", "default": []},
            "cache": {"type": "str", "choices": [_KEEP, _PRUNE], "default": _KEEP},
        },
        mutually_exclusive=[("name", "keep")],
        supports_check_mode=True,
    )
    if module.params["keep"] is not None and not module.params["keep"]:
        module.fail_json(msg="keep is empty, which would remove every image; if that is meant, give '*' as name")
    if module.params["keep"] is None and module.params["name"] is None:
        if not module.params["sweep"] and module.params["cache"] != _PRUNE:
            module.fail_json(msg="there is nothing to remove; give name, keep, sweep: true or cache: prune")
        module.params["name"] = []
    if module.params["sweep"] and module.params["state"] == FORGOTTEN:
        module.fail_json(
            msg="state: forgotten leaves files behind that sweep: true would remove; choose one of the two"
        )
    with failing(module):
        inventory, cache = inventory_of(module), BlobCache(blob_directory(module))
        request = _request(module)
        if request.keep:
            for text in meaningless(list(inventory.documents()), request.keep):
                module.warn(f"keep holds {text!r}, which is no image of the inventory")
        outcomes = remove(inventory, cache, request)
        beside = BesideImages()
        try:
            _clean(module, inventory, cache, outcomes, beside)
        except SregistryError as error:  # what is gone must be told all the same
            beside.error = error
        finish_changes(module, inventory, outcomes, beside)


def _request(module: AnsibleModule) -> RemoveRequest:
    params = module.params
    registry = parse_registry(params["registry"])
    return RemoveRequest(
        names=None if params["name"] is None else [Selector.parse(text, registry) for text in params["name"]],
        keep=[Selector.parse(text, registry) for text in params["keep"] or ()],
        platform=Platform.parse(params["platform"]) if params["platform"] else None,
        state=params["state"],
        force=params["force"],
        check=module.check_mode,
        places=_places(module),
    )


def _places(module: AnsibleModule) -> Places:
    need_absolute(module.params["links"])
    return Places(module.params["storage"], inventory_of(module).directory, tuple(module.params["links"]))


def _clean(
    module: AnsibleModule, inventory: Inventory, cache: BlobCache, outcomes: list[RemoveOutcome], beside: BesideImages
) -> None:
    """Remove what no image has: files of the store, blobs of the cache."""
    if module.params["sweep"]:
        swept = sweep_store(inventory, _places(module), outcomes, module.check_mode)
        beside.values["swept"] = swept.gone
        _show(beside, "files that no image has", swept.gone)
        _warn_of(module, swept.strangers)
        for path, link in swept.linked[:_NAMED]:
            module.warn(f"sweep leaves {path}, since the symlink {link} leads to it; remove that first")
    if module.params["cache"] == _PRUNE:
        pruned = prune_cache(inventory, cache, outcomes, module.check_mode)
        beside.values["pruned"] = {"blobs": len(pruned), "bytes": sum(blob.size for blob in pruned)}
        _show(beside, f"the cache {cache.directory}", [blob.what for blob in pruned])


def _warn_of(module: AnsibleModule, strangers: list[str]) -> None:
    if strangers:
        more = f" and {len(strangers) - _NAMED} more" if len(strangers) > _NAMED else ""
        module.warn(
            f"sweep leaves what is named as an image and is none, as far as can be told: "
            f"{', '.join(strangers[:_NAMED])}{more}; what nobody needs, remove with ansible.builtin.file"
        )


def _show(beside: BesideImages, header: str, gone: list[str]) -> None:
    if gone:
        beside.diff.append({"before_header": header, "after_header": header, "before": {"gone": gone}, "after": {}})


if __name__ == "__main__":
    main()
