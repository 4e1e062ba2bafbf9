# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that are compared: each as a person would type it, or as Ansible starts it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench import node
from tests.bench.results import Sample
from tests.lab.registry import REGISTRIES
from tests.measure.command import Failed

REGISTRY = REGISTRIES["plain"].address
SQUASHFS = "-comp zstd -Xcompression-level 3"
OURS, WARM, LAYERS, FLOOR, DOWNLOAD = "ours", "warm", "layers", "floor", "download"
EXPERT, PULL = "expert", "pull"
TITLES = {
    OURS: "hpc.sregistry",
    WARM: "hpc.sregistry, cache warm",
    LAYERS: "hpc.sregistry, layers cached",
    FLOOR: "the floor",
    DOWNLOAD: "skopeo copy",
    EXPERT: "apptainer build, zstd 3",
    PULL: "apptainer pull",
}
COMMANDS = {
    OURS: "python3 AnsiballZ_sregistry_pull.py",
    WARM: "python3 AnsiballZ_sregistry_pull.py",
    LAYERS: "python3 AnsiballZ_sregistry_pull.py",
    FLOOR: f"gzip -dc LAYER… | sqfstar {SQUASHFS} IMAGE.sqfs",
    DOWNLOAD: "skopeo copy docker://IMAGE oci:DIRECTORY",
    EXPERT: f"apptainer build --mksquashfs-args '{SQUASHFS}' IMAGE.sif docker://IMAGE",
    PULL: "apptainer pull IMAGE.sif docker://IMAGE",
}
"""The commands in short, for the report."""

# What Apptainer adds to each image.
_ADDED = (".singularity.d", ".exec", ".run", ".shell", ".test", "singularity", "environment", "dev", "proc", "sys")
_ADDED_FILES = ("etc/hosts", "etc/resolv.conf")

_LAYERS = f"{node.BENCH}/layers"
_MODULES = f"{node.BENCH}/modules"


@dataclass(frozen=True)
class Contender:
    """One command of one image.

    ``reset`` runs before it, unmeasured. ``action`` is what the module has to say that it did.
    """

    key: str
    reset: str
    command: str
    output: str
    action: str | None = None

    def run(self) -> Sample:
        """Run it once on the host."""
        figures, printed = node.measure(self.reset, self.command, self.output)
        if not figures["size"]:
            raise Failed(f"{self.command} ended well and made no {self.output}")
        phases: dict[str, float] = {}
        if self.action is not None:
            (image,) = json.loads(printed)["images"]
            if image["action"] != self.action:
                raise Failed(f"{self.key}: the action is {image['action']} where {self.action} was expected")
            phases = image["seconds"]
        return Sample(**figures, phases=phases)


def prepare(image: str, layers: Sequence[str]) -> list[Contender]:
    """Bring what the commands need to the host, and return the commands.

    ``image`` is ``repository:tag``, ``layers`` are the digests of its layers, oldest first.
    """
    source = f"docker://{REGISTRY}/{image}"
    node.shell(f"rm -rf {_LAYERS}; skopeo copy -q --src-tls-verify=false {source} oci:{_LAYERS}:image")
    return [
        *ours(image),
        _floor(layers),
        _download(source),
        _apptainer(EXPERT, f"build --no-https --mksquashfs-args '{SQUASHFS}'", source),
        _apptainer(PULL, "pull --no-https", source),
    ]


def ours(image: str, name: str = "", **settings: str) -> list[Contender]:
    """Bring the module of ours to the host, and return the commands that run it.

    ``settings`` are environment variables of the ``ansible-playbook`` that sends it: with these it may be that of other
    code, which works in directories of its own, for its ``name``.
    """
    fresh, kept = OURS + name, WARM + name
    module = _module(image, kept, settings)
    sif, command = _sif(kept, image), _start(kept, f"python3 {module}")
    return [
        Contender(OURS, _fresh(fresh), _start(fresh, f"python3 {module}"), _sif(fresh, image), "pulled"),
        Contender(WARM, f"rm {sif}", command, sif, "repaired"),
        Contender(LAYERS, _without_files(kept, image), command, sif, "repaired"),
    ]


def check(contenders: list[Contender]) -> None:
    """Compare what the commands made; raises ``Failed`` unless the floor packed at least what Apptainer packed.

    The floor keeps what newer layers removed, and has nothing of what Apptainer adds.
    """
    made = {each.key: _listing(each) for each in contenders if each.key in (OURS, FLOOR, PULL)}
    for key, wanted, got in ((OURS, made[PULL], made[OURS]), (FLOOR, made[PULL], made[FLOOR])):
        if missing := sorted(wanted - got)[:5]:
            raise Failed(f"{TITLES[key]} made an image without {', '.join(missing)}")
    if more := sorted(made[OURS] - made[PULL])[:5]:
        raise Failed(f"{TITLES[OURS]} made an image with {', '.join(more)}")


def _listing(contender: Contender) -> set[str]:
    """Return the paths in a squashfs or SIF file, without those that Apptainer itself adds to each image."""
    if contender.output.endswith(".sqfs"):
        listing = node.shell(f"unsquashfs -l {contender.output}")
    else:
        partition = f"apptainer sif list {contender.output} | awk -F '[|-]' '/Squashfs/ {{print $4; exit}}'"
        listing = node.shell(f'unsquashfs -o "$({partition})" -l {contender.output}')
    names = {line.removeprefix("squashfs-root/") for line in listing.splitlines() if line.startswith("squashfs-root/")}
    return {name for name in names if name.split("/")[0] not in _ADDED and name not in _ADDED_FILES}


def _module(image: str, key: str, settings: Mapping[str, str]) -> str:
    """Return the very file that Ansible sends and starts, kept on the host; pull the image for ``key``."""
    before = set(node.shell(f"mkdir -p {_MODULES}; ls {_MODULES}").split())
    task = {"hpc.sregistry.sregistry_pull": {"name": [f"{REGISTRY}/{image}"], "no_https": True}}
    node.shell(f"rm -rf {_directory(key)}; mkdir -p {_directory(key)}")
    # Without pipelining, Ansible copies the module into a directory, and leaves it there when it is told so.
    keep = {"ANSIBLE_KEEP_REMOTE_FILES": "1", "ANSIBLE_REMOTE_TMP": _MODULES}
    node.play(task, _environment(key), **keep, **settings)
    (new,) = set(node.shell(f"ls {_MODULES}").split()) - before
    return f"{_MODULES}/{new}/AnsiballZ_sregistry_pull.py"


def _directory(key: str) -> str:
    return f"{node.BENCH}/{key}"


def _environment(key: str) -> dict[str, str]:
    """Return the variables that say where a command keeps its cache and its images."""
    directory = _directory(key)
    return {"APPTAINER_CACHEDIR": f"{directory}/cache", "SREGISTRY_STORAGE": f"{directory}/store"}


def _start(key: str, program: str) -> str:
    return f"{node.exports(_environment(key))}exec {program}"


def _fresh(key: str) -> str:
    """Return a reset that leaves neither cache nor image nor inventory."""
    return f"rm -rf {_directory(key)}; mkdir {_directory(key)}"


def _without_files(key: str, image: str) -> str:
    """Return a reset that keeps cached layers, but no image, nor what the cache has of it: that is executable."""
    return f"rm {_sif(key, image)}; find {_directory(key)}/cache -type f -perm -100 -delete"


def _sif(key: str, image: str) -> str:
    repository, _colon, tag = image.rpartition(":")
    return f"{_directory(key)}/store/{REGISTRY.replace(':', '_')}/{repository}-{tag}.sif"


def _floor(layers: Sequence[str]) -> Contender:
    """Return the layers as they are on disk, newest first: of a path that comes twice, the packer keeps the first."""
    output = f"{_directory(FLOOR)}/image.sqfs"
    unpack = " && ".join(f"gzip -dc {_LAYERS}/blobs/{digest.replace(':', '/')}" for digest in reversed(layers))
    pack = f"sqfstar -ignore-zeros -no-progress -quiet {SQUASHFS} {output}"
    return Contender(FLOOR, _fresh(FLOOR), f"{{ {unpack}; }} | {pack}", output)


def _download(source: str) -> Contender:
    layout = f"{_directory(DOWNLOAD)}/layout"
    command = f"skopeo copy -q --src-tls-verify=false {source} oci:{layout}:image"
    return Contender(DOWNLOAD, _fresh(DOWNLOAD), _start(DOWNLOAD, command), layout)


def _apptainer(key: str, how: str, source: str) -> Contender:
    output = f"{_directory(key)}/image.sif"
    return Contender(key, _fresh(key), _start(key, f"apptainer {how} {output} {source}"), output)
