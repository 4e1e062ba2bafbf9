#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_pull
short_description: Pull container images as SIF files
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Makes sure that a SIF file of each image is on the managed host, and that it is what the image's name points at.
  - Layers are fetched from the registry, verified, united, and packed into a SIF file for Apptainer or SingularityCE.
    No container daemon is involved, and root is not needed.
  - Finished SIF files, in a registry (V(oras://)) or on a web server (V(https://)), are fetched as they are. Nothing is
    built then, so O(use_cmd), O(builder), O(compression) and the other options of a build do not matter to them.
  - The result is entered into the inventory, which every module of the collection returns as facts.
  - It answers to C(sregistry pull) and C(singularity pull).
extends_documentation_fragment:
  - hpc.sregistry.names
  - hpc.sregistry.digests
  - hpc.sregistry.platform
  - hpc.sregistry.registry
  - hpc.sregistry.gather
  - hpc.sregistry.attributes
  - hpc.sregistry.store
  - hpc.sregistry.engine
  - hpc.sregistry.packer
  - hpc.sregistry.verify
  - ansible.builtin.files
attributes:
  check_mode:
    details:
      - Digests are resolved and compared. No layer is fetched and nothing outside of a temporary directory is written.
        The changed status and the difference are those of the real run.
      - A missing engine or packer is a warning in check mode, since an earlier task of the play may be what installs
        it.
  diff_mode:
    details:
      - Shows digests, path, and the size of the layers.
  idempotent:
    details:
      - A file is built again only if the digest of the manifest, the engine, or a O(compression) or
        O(compression_level) that is asked for is another than when it was built, if the file is missing or was
        modified, or with O(force=true).
      - If a tag is moved between two runs, the second one follows it, except with O(pull=not_present).
      - A file from a web server is fetched again only if the server tells another C(ETag), C(Last-Modified) or size.
        If it is the same file then, nothing is changed. Check mode reads it, too, to know that.
options:
  dest:
    description:
      - Where to put the file, instead of a path below O(storage).
      - It is taken for a directory if it ends with a slash, if it is one, or if O(name) holds several images.
        The files are then called C(<name>-<tag>.sif), and two images that would get the same name are refused.
      - Missing directories are created.
      - An image file that is there is replaced, but one that was added or built here, and a file that is no image, only
        with O(force=true). If it belonged to another image in the inventory, such as the version before,
        it does not any more. Two tasks that give two images the same O(dest) therefore undo each other's work.
        If the inventory did not know it, there is a warning.
      - Without O(dest), a path that belongs to another image, or to another platform of this one, is refused unless
        O(force=true).
    type: path
  pull:
    description:
      - When to ask the registry about an image whose file is there and unchanged.
      - V(always) asks, with one C(HEAD) request for each name, whether the name still points at the same digest.
        Docker Hub does not count C(HEAD) requests against its pull rate limit. A name by digest needs no request, also
        with V(https://), and so does one in O(digests).
      - A registry that refuses C(HEAD), or tells another digest in its answer than in that to C(GET), is asked with
        C(GET). What that gives decides; if it is what was there, nothing is changed.
      - V(missing) does not ask. V(not_present) means the same.
    type: str
    choices: [always, missing, not_present]
    default: always
  checksum:
    description:
      - Read the whole file and compare its SHA-256 to find out whether it was modified.
      - Otherwise its size and modification time are compared.
    type: bool
    default: false
  force:
    description:
      - Build the file again, even if it is there and up to date. Layers that are in the cache are not fetched again.
        A finished file is put in its place again.
      - Take over a path below O(storage) that belongs to another image, and a path whose file was added, was built
        here, or is no image.
    type: bool
    default: false
  backup:
    description:
      - Keep what lies at the path of a file and is replaced, under another name beside it, with the process and the
        time in it, as the modules of Ansible do. RV(images[].backup_file) tells the name.
      - That is done whatever is replaced, also the file of an older image that the inventory knows. No byte is copied
        where the file system has hard links, but the old file takes its room as long as the backup is there.
      - Backups are in no inventory, O(hpc.sregistry.sregistry_remove#module:sweep) leaves them, and nothing removes
        them. Do that with M(ansible.builtin.find) and M(ansible.builtin.file).
    type: bool
    default: false
  sif_cache:
    description:
      - Where finished SIF files are looked for before one is built, as V([http://]HOST[:PORT][/PREFIX]) of a registry.
        A node then fetches what another one has built, which takes a fraction of the work.
      - It works as a compiler's cache does. The digest of the platform's manifest, the name, O(use_cmd),
        O(compression), O(compression_level), O(reproducible) and the kind of the engine decide what a file there is
        called, so that a moved tag or another option never finds a wrong one, and nothing has to be renewed.
      - What is found is verified by its digest, and continued where a transfer broke off. If it is large, and one
        connection brings less than 64 MiB a second, it is fetched in several ranges at once, as long as that is
        quicker. Neither packer nor engine is needed for it.
      - If the registry fails, or has no such file, the image is built as always, unless O(sif_cache_miss=fail).
      - The login for it comes from O(authfile). O(username) and O(password) are only sent there if it is the registry
        of the images.
      - Who may write there decides what the nodes run. Let only those push who build.
      - Finished files (V(oras://), V(https://)) are not looked for.
    type: str
  sif_cache_push:
    description:
      - Push what was built to O(sif_cache), and also a file that is there and up to date but missing in the cache. With
        O(force=true) what is in the cache is replaced.
      - If that fails the task fails for the image, whose file is in place nevertheless. The next run tries again.
    type: bool
    default: false
  sif_cache_miss:
    description:
      - What to do if O(sif_cache) has no file of an image, or does not answer.
      - V(build) builds it here.
      - V(fail) fails for this image. In a fleet where one node builds for all, the others then never ask the image's
        own registry all at once. With O(force=true) the file is then fetched again instead of built.
    type: str
    choices: [build, fail]
    default: build
  use_cmd:
    description:
      - Let the container run the image's C(CMD) instead of its C(ENTRYPOINT), which is then left out. An image without
        C(CMD) keeps its entry point.
      - It is an input of the build. A file that was built with the other one is built again.
      - If the option is not given, E(SREGISTRY_DOCKER_CMD) of the managed host is used.
    type: bool
    default: false
  builder:
    description:
      - How the layers become a file system.
      - V(stream) writes what survives of them as one tar archive into C(mksquashfs), while they are decompressed and
        even while they arrive. Nothing is unpacked to disk, an ordinary user's file is the same as root's, and it is
        several times faster. It needs squashfs-tools 4.5 or newer, for an ordinary user 4.6.
      - V(sandbox) unpacks the layers below O(tmpdir) and packs that.
      - V(auto) streams where the packer of the host can, except for an image with more than 20,000 files in one
        directory, which C(mksquashfs) takes faster from a disk.
      - Both give the same tree. RV(images[].builder) tells which one ran, and why.
    type: str
    choices: [auto, stream, sandbox]
    default: auto
  compression:
    description:
      - How the file system in the file is compressed.
      - V(auto) is V(zstd) where C(mksquashfs), the kernel (4.14) and, if it is installed, C(squashfuse) (0.1.101) of
        the host know it, else V(gzip). A file that is there stays as it is.
      - Anything else is an input of the build. A file that was built with another compression is built again.
      - Choose V(gzip) for files that other, older hosts are to mount.
    type: str
    choices: [auto, zstd, gzip, lz4, xz]
    default: auto
  compression_level:
    description:
      - Level of the compression, 1 to 22 for V(zstd) (normally 3) and 1 to 9 for V(gzip) (normally 1). The others have
        none.
      - A higher level takes many times longer and saves a few per cent. These defaults are made for images that are
        built on the node that runs them.
    type: int
  reproducible:
    description:
      - Build the same file, byte for byte, wherever and whenever the same version of the engine and of
        C(mksquashfs) builds the same image from the same name with the same O(compression). Time stamps are those of
        the image, identifiers come from its digest. The checksums of a fleet can then be compared.
      - V(false) gives each file its own identifier, and the time of the build.
    type: bool
    default: true
  progress:
    description:
      - Whether the task tells how far it is, while it runs. A host has a line every few seconds with the image, the
        step, the MiB that were fetched or read, the layers, the rate, and the time that is left. More than four hosts
        have one line together. Nothing is told of the first three seconds.
      - V(auto) tells it where the output of Ansible is a terminal, and not made by a callback for programs, such as
        P(ansible.posix.json#callback).
      - V(always) tells it in any case. With such a callback it goes to the standard error.
      - It is shown on the controller, by an action plugin. Nothing is shown in check mode, with C(async), with
        C(no_log), or over a connection that cannot be used twice at a time, and the result is always the same.
      - If the option is not given, the variable C(sregistry_progress) of the host is used, then E(SREGISTRY_PROGRESS)
        of the controller, then V(auto).
    type: str
    choices: [auto, always, never]
  mode:
    description:
      - Permissions of the file, as M(ansible.builtin.file) understands them, for example V("0755") or V(u=rwx,go=rx).
      - By default a new file is readable and executable as far as the umask allows, so that it can be run by its name.
    type: raw
requirements:
  - apptainer or singularity-ce
  - squashfs-tools
notes:
  - Files appear whole or not at all. A file that is replaced can be in use meanwhile; running containers keep the old
    one.
  - Before anything is fetched, the room that all images of the task need together is compared with what is free, on
    each file system. What is missing in the cache counts as it is, and a file that is built as much as its compressed
    layers, from which it mostly differs by a few per cent. If it does not fit, all images fail that would get a file,
    in check mode too. What a builder unpacks below O(tmpdir) is only known later, and looked for then.
  - With O(verify), a file is verified before it gets its name, so that what is not accepted replaces nothing. A file
    that is there already is verified where it lies, once for the same keys. Images that are built from layers carry no
    signature and are refused with O(verify).
  - Runs on several hosts may share one O(storage) and one cache on a shared file system. An image is then built once.
  - With O(builder=sandbox) an ordinary user cannot keep all that an image holds. Files then belong to root in the
    image, device nodes are left out, and some extended attributes are lost. A warning names what is missing. This is
    what Apptainer and SingularityCE do too. A streamed image keeps all of it.
seealso:
  - module: hpc.sregistry.sregistry_sign
  - module: hpc.sregistry.sregistry_verify
  - module: hpc.sregistry.sregistry_record
  - module: hpc.sregistry.sregistry_facts
"""

EXAMPLES = r"""
- name: An image is there and up to date
  hpc.sregistry.sregistry_pull:
    name: docker://ubuntu:24.04

- name: Images for all users of a node, built on a disk with room
  hpc.sregistry.sregistry_pull:
    name:
      - quay.io/biocontainers/samtools:1.21--h50ea8bc_0
      - quay.io/biocontainers/bwa:0.7.18--he4a0461_0
    storage: /var/lib/sregistry
    tmpdir: /var/tmp
    owner: root
    mode: "0755"
  become: true

- name: A release that never changes, at a path of its own
  hpc.sregistry.sregistry_pull:
    name: quay.io/prometheus/node-exporter@sha256:4cb2b9019f1757be8482419002cb7afe028fdba35d47958829e4cfeaf6246d80
    dest: /opt/images/node-exporter.sif

- name: An image while jobs run on the node
  hpc.sregistry.sregistry_pull:
    name: docker://rockylinux:9
    packer_processors: 2
    packer_memory: 512M
    niceness: 19
    threads: 2

- name: The smallest file, for an archive
  hpc.sregistry.sregistry_pull:
    name: docker://rockylinux:9
    dest: /archive/images/
    compression: zstd
    compression_level: 19

- name: Ask the registry only where the file is missing
  hpc.sregistry.sregistry_pull:
    name: docker.io/rockylinux:9
    pull: not_present

- name: What was locked, wherever the tags have moved
  hpc.sregistry.sregistry_pull:
    name: "{{ locked | list }}"
    digests: "{{ locked }}"
    storage: /var/lib/sregistry
  vars:
    lock: images.lock.yml
    locked: "{{ lookup('ansible.builtin.file', lock) | hpc.sregistry.lock_pins(path=lock) }}"

- name: From a private registry with its own certificate authority
  hpc.sregistry.sregistry_pull:
    name: registry.example.org/team/solver:2.4
    username: "{{ registry_user }}"
    password: "{{ registry_password }}"
    ca_path: /etc/pki/tls/certs/example-org.pem

- name: From several registries, with the logins of a file
  hpc.sregistry.sregistry_pull:
    name:
      - registry.example.org/team/solver:2.4
      - ghcr.io/example/mesher:1.0
    authfile: /root/.docker/config.json

- name: What one node has built, the others fetch
  hpc.sregistry.sregistry_pull:
    name: docker://rockylinux:9
    sif_cache: registry.example.org/sif
    sif_cache_push: "{{ inventory_hostname == groups['compute'][0] }}"
    authfile: /root/.docker/config.json

- name: A finished SIF file from a registry, signed by one of us
  hpc.sregistry.sregistry_pull:
    name: oras://ghcr.io/example/solver:2.4
    verify:
      - key: /etc/pki/containers/site.pem

- name: A finished SIF file from a web server, this very one
  hpc.sregistry.sregistry_pull:
    name: https://downloads.example.org/solver-2.4.sif@sha256:aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56

- name: An image for other nodes, below a directory of its own
  hpc.sregistry.sregistry_pull:
    name: docker://alpine:3.22
    platform: linux/arm64
    dest: /shared/images/arm64/

- name: Run what was pulled
  module_defaults:
    group/hpc.sregistry.sregistry:
      storage: /shared/sregistry
  block:
    - name: The image is there
      hpc.sregistry.sregistry_pull:
        name: docker://ubuntu:24.04
      register: ubuntu

    - name: Run a command in it
      ansible.builtin.command:
        argv: [apptainer, exec, "{{ ubuntu.images[0].path }}", cat, /etc/os-release]
      changed_when: false
"""

RETURN = r"""
images:
  description: What became of each image, in the order of O(name).
  returned: always, unless the task fails before any image is looked at
  type: list
  elements: dict
  contains:
    name:
      description: The name as it was given.
      type: str
      sample: docker://ubuntu:24.04
    reference:
      description: The name in its canonical form.
      type: str
      sample: library/ubuntu:24.04
    changed:
      description: Whether something was done for this image, or would be in check mode.
      type: bool
      sample: true
    action:
      description:
        - V(present) means that the file was there and is what the name points at.
        - V(attributes) means the same, but that O(owner), O(group), O(mode) or the like had to be set.
        - V(recorded) means that only the inventory changed. The tag moved, but to an index with the same image for
          this platform, or a web server says that a file changed, but it did not.
        - V(pulled) means that the image had no file at this path.
        - V(rebuilt) means that the file was from another image, or that another engine or O(force=true) asked for a
          new one. A finished file was fetched anew.
        - V(repaired) means that the file was missing or modified. A deleted file comes back from the cache if that is
          on the same file system and holds it.
        - V(pushed) means that the file was there, and only O(sif_cache) lacked it.
        - V(failed) means that RV(images[].error) tells what went wrong.
      type: str
      sample: pulled
    platform:
      description: The platform that was looked for.
      type: str
      sample: linux/amd64
    digest:
      description:
        - Digest of what the name points at, an index or a manifest; with V(https://) the file itself. Null if that is
          not known.
      type: str
      sample: sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3
    manifest_digest:
      description: Digest of the manifest for the platform. Null if that is not known.
      type: str
      sample: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
    path:
      description: The file, where it is or would be.
      type: str
      sample: /var/lib/sregistry/library/ubuntu-24.04.sif
    size:
      description: Size of the file in bytes. Null if there is none, as in check mode before the first pull.
      type: int
      sample: 29454336
    sha256:
      description: The SHA-256 of the file. Null if there is none.
      type: str
      sample: aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56
    fetched:
      description: How much came over the network, without manifests. A layer that images share is counted once.
      type: dict
      sample: {blobs: 2, bytes: 29727061}
    cached:
      description: How much the cache had already.
      type: dict
      sample: {blobs: 0, bytes: 0}
    seconds:
      description:
        - How long each step took. Only C(resolve) and C(total) are there when nothing had to be done.
        - C(wait) is until other runs let go of the image and of its file, which may be the time of a whole build.
        - C(metadata) is the engine's part, C(assemble) the SIF around the file system and its way to disk.
        - A streamed image has C(pack), from the first byte of its newest layer to the end. An unpacked one has C(index)
          and C(unpack) before that.
        - A file from the cache has C(restore) instead. A finished file has C(fetch) and C(place).
        - C(fetch) is the part of C(pack) or C(index) that waited for layers to arrive.
        - C(push) is the way into O(sif_cache).
      type: dict
      sample: {resolve: 0.4, wait: 0.0, metadata: 0.2, fetch: 1.1, pack: 2.1, assemble: 0.1, total: 2.9}
    backup_file:
      description: Where the file lies that was replaced.
      returned: with O(backup=true), if something was replaced, and not in check mode
      type: str
      sample: /opt/images/solver.sif.4711.2026-11-22@00:20:43~
    builder:
      description: The builder that made the file, why that one, and what decompressed the layers for it.
      returned: when a file was built
      type: dict
      contains:
        name:
          description: V(stream) or V(sandbox).
          type: str
          sample: stream
        reason:
          description: Why this one.
          type: str
          sample: mksquashfs reads tar archives
        decoders:
          description:
            - What decompressed the layers, the one that gave most first, how many bytes each gave, and how long it
              was waited for. A layer that is read twice counts twice, one that is not compressed does not count.
            - For gzip it is V(rapidgzip), V(isal), V(igzip) or V(zlib), for zstd V(compression.zstd), V(zstandard),
              or V(zstd).
          type: list
          elements: dict
          contains:
            name:
              description: The library or program.
              type: str
              sample: isal
            bytes:
              description: How much it gave, decompressed.
              type: int
              sample: 77850112
            seconds:
              description: How long it was waited for, in all threads together.
              type: float
              sample: 0.18
    sif_cache:
      description:
        - V(hit) means that the file was fetched from O(sif_cache), V(miss) that it was built, V(pushed) that it was put
          there, V(present) that it is there already.
        - In check mode it is what the real run would find or do.
      returned: with O(sif_cache), when it was asked
      type: str
      sample: hit
    error:
      description: Why it failed.
      returned: when RV(images[].action=failed)
      type: str
      sample: "manifest unknown: library/ubuntu has no tag '24.40' (status 404 from docker.io); it has 22.04, 24.04"
diff:
  description:
    - For each image that changes, its digests, its path, and the size of its layers in bytes, before and after.
  returned: in diff mode
  type: list
  elements: dict
  sample:
    - before_header: library/ubuntu:24.04
      before: {}
      after_header: library/ubuntu:24.04
      after:
        digest: sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3
        manifest_digest: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
        path: /var/lib/sregistry/library/ubuntu-24.04.sif
        size: 29724688
ansible_facts:
  description: The inventory after the task, in short form.
  returned: success
  type: dict
  contains:
    sregistry:
      description: The inventory of this store.
      type: dict
      contains:
        storage:
          description: The store, as O(storage).
          type: str
          sample: /var/lib/sregistry
        database:
          description: The directory of the inventory.
          type: str
          sample: /var/lib/sregistry/.sregistry
        complete:
          description: Whether RV(ansible_facts.sregistry.images) is the whole inventory.
          type: bool
          sample: true
        images:
          description:
            - One entry for each file of each image, or one without a file for an image that is only recorded.
              They are sorted by C(reference), C(platform) and C(path).
          type: list
          elements: dict
          contains:
            reference:
              description: The name in its canonical form.
              type: str
              sample: library/ubuntu:24.04
            registry:
              description: Host of the registry, with its port if it has one.
              type: str
              sample: docker.io
            collection:
              description: The repository without its last part.
              type: str
              sample: library
            name:
              description: The last part of the repository.
              type: str
              sample: ubuntu
            tag:
              description: The tag. Empty for an image that is named by digest.
              type: str
              sample: "24.04"
            platform:
              description: The platform of the image.
              type: str
              sample: linux/amd64
            client:
              description: The client of sregistry that serves such images.
              type: str
              sample: dockerhub
            digest:
              description: Digest of what the name pointed at when the registry was last asked, an index or a manifest.
              type: str
              sample: sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3
            manifest_digest:
              description: Digest of the manifest for the platform.
              type: str
              sample: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
            updated_at:
              description: When the entry was last written, in UTC.
              type: str
              sample: "2026-11-22T00:20:43Z"
            path:
              description: Path of the file. Null for an image that is only recorded.
              type: str
              sample: /var/lib/sregistry/library/ubuntu-24.04.sif
            sha256:
              description: The SHA-256 of the file. Empty for an image that is only recorded.
              type: str
              sample: aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56
            size:
              description: Size of the file in bytes. Null for an image that is only recorded.
              type: int
              sample: 29454336
            mtime_ns:
              description: When the file was written, in nanoseconds since the epoch. Null without a file.
              type: int
              sample: 1795306843120394857
            created_at:
              description: When the file was built, or the image was first recorded, in UTC.
              type: str
              sample: "2026-11-22T00:20:43Z"
            built_from:
              description: Digest of the manifest that the file was built from. Null for an image that is only recorded.
              type: str
              sample: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
            outdated:
              description:
                - Whether the name points at another image by now than the one that the file was built from.
                  Null for an image that is only recorded.
              type: bool
              sample: false
"""

import os
from contextlib import ExitStack

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.inventory.outcome import PRESENT, RECORDED
from ..module_utils._internal.late import importing
from ..module_utils._internal.module.attributes import check_owner, prepare, set_attributes
from ..module_utils._internal.module.base import failing
from ..module_utils._internal.module.build_options import be_nice, toolchain_of
from ..module_utils._internal.module.options import (
    build_options,
    digests_options,
    gather_options,
    name_options,
    platform_options,
    registry_options,
    store_options,
    verify_options,
)
from ..module_utils._internal.module.remote_images import BUILD, FAIL, finish, open_session, references_of, sif_cache_of
from ..module_utils._internal.pull.progress import FILE_VARIABLE, told
from ..module_utils._internal.pull.pull import pull
from ..module_utils._internal.pull.request import ALWAYS, NOT_PRESENT, PullRequest


def main() -> None:
    """Pull images."""
    module = AnsibleModule(
        {
            **name_options(),
            **digests_options(),
            **platform_options(),
            **registry_options(),
            **store_options(),
            **gather_options(),
            **build_options(),
            **verify_options(),
            "dest": {"type": "path"},
            "pull": {"type": "str", "choices": [ALWAYS, "missing", NOT_PRESENT], "default": ALWAYS},
            "checksum": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "backup": {"type": "bool", "default": False},
            "sif_cache": {"type": "str"},
            "sif_cache_push": {"type": "bool", "default": False},
            "sif_cache_miss": {"type": "str", "choices": [BUILD, FAIL], "default": BUILD},
            "progress": {"type": "str", "choices": ["auto", "always", "never"]},  # what the action plugin shows
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    with failing(module):
        check_owner(module)
        be_nice(module)
        references = references_of(module)
        with ExitStack() as stack:
            session = stack.enter_context(open_session(module))
            trust = None
            if module.params["verify"] is not None:
                with importing:
                    from ..module_utils._internal.module.keys import trust_of

                trust = stack.enter_context(trust_of(module))
            request = PullRequest(
                storage=module.params["storage"],
                dest=module.params["dest"],
                policy=ALWAYS if module.params["pull"] == ALWAYS else NOT_PRESENT,
                checksum=module.params["checksum"],
                force=module.params["force"],
                toolchain=toolchain_of(module),
                prepare=lambda path: prepare(module, path),
                trust=trust,
                sif_cache=sif_cache_of(module, session, [reference for _name, reference in references]),
                backup=module.params["backup"],
            )
            stack.enter_context(told(session.progress, os.environ.get(FILE_VARIABLE)))
            outcomes = pull(session, request, [reference for _name, reference in references])
            for outcome in outcomes.values():
                if outcome.action in (PRESENT, RECORDED):  # a new file got them before it got its name
                    set_attributes(module, outcome, session.kept(outcome))
            finish(module, session, references, outcomes)


if __name__ == "__main__":
    main()
