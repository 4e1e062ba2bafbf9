#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_info
short_description: Answer questions about the container images of a host
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Tells what the inventory of a managed host knows of some images or of all of them, for each file whether it is still
    there and unchanged, and on request what the image says of itself and how something is run in it.
  - It answers to C(sregistry images) with a query, C(sregistry get) and C(sregistry inspect),
    with O(inspect=true) to C(singularity inspect), and with O(exec) it gives the command line of C(singularity exec).
  - It only reads, asks no registry, and returns no facts. For the whole inventory as facts, use
    M(hpc.sregistry.sregistry_facts). M(hpc.sregistry.sregistry_record) finds out whether names point at something else
    by now.
extends_documentation_fragment:
  - hpc.sregistry.attributes
  - hpc.sregistry.client
  - hpc.sregistry.store
attributes:
  check_mode:
    details:
      - It only reads, so it does the same in check mode.
  diff_mode:
    support: N/A
    details:
      - It changes nothing.
options:
  name:
    description:
      - Return RV(images) of these names only, and for each of them, in their order, one of RV(paths).
      - Names that the inventory does not know are in RV(unknown).
      - The default is all images.
    type: list
    elements: str
    aliases: [uri, image]
  search:
    description:
      - Return RV(images) only if their name in its canonical form contains one of these words, or follows one of these
        patterns with C(*) and C(?). An empty word, as V(*), finds all.
    type: list
    elements: str
    aliases: [query]
  required:
    description:
      - Fail if the inventory does not know one of O(name), or has no file of it that is present and unchanged.
    type: bool
    default: false
  platform:
    description:
      - Return RV(images) of this platform only, for example V(linux/arm64).
      - The default is every platform, and for RV(paths) what the managed host can run.
    type: str
  os:
    description:
      - The operating system, if O(platform) is not given.
      - If the option is not given, E(SREGISTRY_DOCKER_OS) of the managed host is used.
    type: str
  architecture:
    description:
      - The architecture, if O(platform) is not given. It may have a variant, as V(arm/v6).
      - If the option is not given, E(SREGISTRY_DOCKER_ARCHITECTURE) of the managed host is used.
    type: str
    aliases: [arch]
  manifests:
    description:
      - Add RV(images[].metrics) and RV(images[].layers).
    type: bool
    default: false
  inspect:
    description:
      - Add RV(images[].inspect), which is read from each file, and of a sandbox from the files in it.
    type: bool
    default: false
  checksum:
    description:
      - Read each whole file and compare its SHA-256 to find out whether it was modified.
      - Otherwise its size and modification time are compared.
    type: bool
    default: false
  exec:
    description:
      - Add RV(images[].command), the command line that runs something in the image, for the engine of the managed
        host. C({}) stands for C(apptainer exec IMAGE), to which a task adds what to run.
      - Where there is no engine, the command is null, and RV(engine_error) says what is missing. An option that the
        version of the engine does not know is an error.
    type: dict
    suboptions:
      action:
        description:
          - V(exec) runs a command, V(run) the run script of the image, V(shell) a shell.
        type: str
        choices: [exec, run, shell]
        default: exec
      command:
        description:
          - The command with its arguments. With V(run) and V(shell), arguments alone.
        type: list
        elements: str
        default: []
      engine:
        description:
          - Path or name of the C(apptainer) or C(singularity) executable, as with M(hpc.sregistry.sregistry_pull).
        type: path
      binds:
        description:
          - Directories of the host to see inside, each as C(SOURCE[:TARGET[:OPTIONS]]).
        type: list
        elements: str
        default: []
      overlays:
        description:
          - Overlays, each as C(PATH[:ro]).
        type: list
        elements: str
        default: []
      env:
        description:
          - Variables to set inside. They stand in the command line, so give no secrets.
        type: dict
        default: {}
      home:
        description:
          - The home directory, as C(SOURCE[:TARGET]).
        type: str
      pwd:
        description:
          - The working directory inside.
        type: str
      cleanenv:
        description:
          - Pass on no variables of the host.
        type: bool
        default: false
      contain:
        description:
          - Let C(/dev), C(/tmp) and the home directory be ones of the container's own.
        type: bool
        default: false
      containall:
        description:
          - As O(exec.contain), and process and IPC namespaces and the environment as well.
        type: bool
        default: false
      fakeroot:
        description:
          - Appear as root inside.
        type: bool
        default: false
      no_home:
        description:
          - Do not mount the home directory.
        type: bool
        default: false
      nv:
        description:
          - Make NVIDIA's GPUs available.
        type: bool
        default: false
      rocm:
        description:
          - Make AMD's GPUs available.
        type: bool
        default: false
      userns:
        description:
          - Run in a user namespace.
        type: bool
        default: false
      writable_tmpfs:
        description:
          - Let the file system be writable, in memory.
        type: bool
        default: false
requirements:
  - python >= 3.9
notes:
  - An option wins over the environment variable of the managed host that stands in its description, and this wins
    over its default.
seealso:
  - module: hpc.sregistry.sregistry_facts
  - module: hpc.sregistry.sregistry_pull
  - module: hpc.sregistry.sregistry_record
"""

EXAMPLES = r"""
- name: Get the path of one image, as "sregistry get" does, and how to run something in it
  hpc.sregistry.sregistry_info:
    name: docker://ubuntu:24.04
    exec:
      binds: [/scratch]
    required: true
  register: ubuntu

- name: Run it
  ansible.builtin.command:
    argv: "{{ ubuntu.images[0].command + ['cat', '/etc/os-release'] }}"
  changed_when: false

- name: Get || pull, step one, what is there
  hpc.sregistry.sregistry_info:
    name: "{{ wanted_images }}"
  register: got

- name: Get || pull, step two, what is not there, without a request for the others
  hpc.sregistry.sregistry_pull:
    name: "{{ got.unknown + got.missing }}"
  when: (got.unknown + got.missing) | length > 0

- name: Look for images, as "sregistry images ubuntu" does
  hpc.sregistry.sregistry_info:
    search: ubuntu
  register: found

- name: Show them as sregistry does
  ansible.builtin.debug:
    msg: "{{ found.images | hpc.sregistry.images_table | split('\n') }}"

- name: Look at everything that is known of an image
  hpc.sregistry.sregistry_info:
    name: docker://ubuntu:24.04
    manifests: true
    inspect: true
"""

RETURN = r"""
images:
  description:
    - Those entries of RV(hpc.sregistry.sregistry_facts#module:images) that O(name), O(search) and O(platform) ask for,
      in the same order and with their C(state). Beside what is described there, each has the following.
  returned: success
  type: list
  elements: dict
  contains:
    metrics:
      description:
        - The documents of the registry as they were received, C(index) (if there is one), C(manifest) and C(config)
          (if there is one).
      returned: with O(manifests=true)
      type: dict
      sample: {manifest: {schemaVersion: 2}, config: {architecture: amd64, os: linux}}
    layers:
      description: Digest, size in bytes as compressed, and media type of each layer, from the oldest to the newest.
      returned: with O(manifests=true)
      type: list
      elements: dict
      sample:
        - digest: sha256:31e907dcc94a592a57796786399eb004dcbba714389fa615f5efa05a91316356
          size: 29724688
          media_type: application/vnd.oci.image.layer.v1.tar+gzip
    inspect:
      description:
        - What C(singularity inspect --all) tells of the file, such as C(labels), C(environment), C(runscript) and
          C(deffile). Null if the file is missing.
      returned: with O(inspect=true), for images with a file
      type: dict
      sample: {deffile: "bootstrap: docker\nfrom: library/ubuntu:24.04"}
    url:
      description: The full name, or what else is known of where the image is from.
      returned: with O(manifests=true)
      type: str
      sample: docker://docker.io/library/ubuntu:24.04
    command:
      description: The command line, as a list. Null without a file or an engine.
      returned: with O(exec)
      type: list
      elements: str
      sample: [/usr/bin/apptainer, exec, --bind, /scratch, /var/lib/sregistry/library/ubuntu-24.04.sif]
paths:
  description:
    - For each of O(name), in this order, the path of its file, if that is present and unchanged, else null. If there
      are several, it is the newest that O(platform), or the managed host, can run.
  returned: always
  type: list
  elements: str
  sample: [/var/lib/sregistry/library/ubuntu-24.04.sif]
unknown:
  description: Those of O(name) that the inventory does not know.
  returned: always
  type: list
  elements: str
  sample: []
missing:
  description:
    - Those of O(name) that the inventory knows and that have none of RV(paths). They are only recorded, or their file
      is missing, modified, or for another platform.
  returned: always
  type: list
  elements: str
  sample: []
engine_error:
  description: Why there is no RV(images[].command).
  returned: with O(exec), if there is no engine
  type: str
  sample: there is neither apptainer nor singularity on this host
"""

import dataclasses
import functools
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.engine import cli
from ..module_utils._internal.engine.run import RunOptions, exec_command
from ..module_utils._internal.errors import EngineError
from ..module_utils._internal.inventory.selector import WordSearch
from ..module_utils._internal.manage.facts import Query, find_images, path_of
from ..module_utils._internal.module.base import failing, inventory_of, platform_of, warn_without_inventory
from ..module_utils._internal.module.options import name_options, platform_options, store_options
from ..module_utils._internal.oci.platform import Platform
from ..module_utils._internal.oci.reference import Reference, parse_registry

_FLAGS = ("cleanenv", "contain", "containall", "fakeroot", "no_home", "nv", "rocm", "userns", "writable_tmpfs")


def main() -> None:
    """Answer a question about images of the inventory."""
    module = AnsibleModule(
        {
            **store_options(),
            **name_options(required=False),
            **platform_options(),
            "search": {"type": "list", "elements": "str", "aliases": ["query"]},
            "required": {"type": "bool", "default": False},
            "manifests": {"type": "bool", "default": False},
            "inspect": {"type": "bool", "default": False},
            "checksum": {"type": "bool", "default": False},
            "exec": {"type": "dict", "options": _exec_options()},
        },
        required_if=[("required", True, ["name"])],
        supports_check_mode=True,
    )
    with failing(module):
        names, registry = module.params["name"], parse_registry(module.params["registry"])
        references = [Reference.parse_known(name, registry) for name in names] if names is not None else None
        inventory, platform = inventory_of(module), platform_of(module)
        found = _find_engine(module)
        query = Query(
            references,
            platform,
            search=WordSearch.of(module.params["search"]) if module.params["search"] is not None else None,
            manifests=module.params["manifests"],
            checksum=module.params["checksum"],
            inspect=module.params["inspect"],
            command=functools.partial(_command, module, found) if module.params["exec"] is not None else None,
        )
        rows = inventory.rows()
        images = find_images(inventory, rows, query, module.warn)
        known = {row["reference"] for row in rows}
        result: dict[str, Any] = {"images": images, "paths": [], "unknown": [], "missing": []}
        for name, reference in zip(names or (), references or ()):
            path = path_of(images, reference, platform or Platform.host())
            result["paths"].append(path)
            if reference.uri not in known:
                result["unknown"].append(name)
            elif path is None:
                result["missing"].append(name)
        if isinstance(found, EngineError):
            result["engine_error"] = str(found)
        warn_without_inventory(module, inventory)
        if module.params["required"] and (result["unknown"] or result["missing"]):
            module.fail_json(msg=_lacking(result), **result)
        module.exit_json(changed=False, **result)


def _exec_options() -> dict[str, Any]:
    return {
        "action": {"type": "str", "choices": ["exec", "run", "shell"], "default": "exec"},
        "command": {"type": "list", "elements": "str", "default": []},
        "engine": {"type": "path"},
        "binds": {"type": "list", "elements": "str", "default": []},
        "overlays": {"type": "list", "elements": "str", "default": []},
        "env": {"type": "dict", "default": {}},
        "home": {"type": "str"},
        "pwd": {"type": "str"},
        **{flag: {"type": "bool", "default": False} for flag in _FLAGS},
    }


def _find_engine(module: AnsibleModule) -> cli.Engine | EngineError | None:
    """Find the engine, if a command line is asked for; return the error if there is none: the rest needs no engine."""
    if module.params["exec"] is None:
        return None
    try:
        return cli.find_engine(module.params["exec"]["engine"])
    except EngineError as error:
        return error


def _command(module: AnsibleModule, found: cli.Engine | EngineError | None, path: str) -> list[str] | None:
    """Return the command line that runs a file.

    :raises EngineError: if the engine does not know an option.
    """
    if not isinstance(found, cli.Engine):
        return None
    given = module.params["exec"]
    options = RunOptions(
        binds=tuple(given["binds"]),
        overlays=tuple(given["overlays"]),
        env={name: str(value) for name, value in given["env"].items()},
        home=given["home"],
        pwd=given["pwd"],
    )
    options = dataclasses.replace(options, **{flag: given[flag] for flag in _FLAGS})
    return exec_command(found, path, given["command"], options, given["action"])


def _lacking(result: dict[str, Any]) -> str:
    """Write the message of a task that needs images which are not there."""
    words = []
    if result["unknown"]:
        words.append(f"the inventory does not know {', '.join(result['unknown'])}")
    if result["missing"]:
        words.append(f"there is no unchanged file of {', '.join(result['missing'])}")
    return f"{' and '.join(words)}; pull or add them first"


if __name__ == "__main__":
    main()
