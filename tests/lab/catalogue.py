# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue: what every image of the lab is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tests.lab import hazards, huge, large, oci, rootfs, tree, workloads

Build = Callable[[oci.Client], None]


@dataclass(frozen=True)
class Recipe:
    """A recipe for some images: pushed again when ``version`` changes or one of ``names`` is gone."""

    version: int
    names: tuple[str, ...]
    build: Build
    on_demand: bool = False

    @property
    def title(self) -> str:
        """The name of its record."""
        return oci.reference(self.names[0]).repository.replace("/", "-")


@cache
def tiny_layer() -> oci.Layer:
    """Return the busybox layer on which most images stand."""
    return oci.layer(tree.tiny_tar(), "ADD busybox")


def tiny(version: str = "1.0") -> oci.Image:
    """Return a static busybox that says which version it is."""
    return oci.Image(
        (tiny_layer(),),
        {
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", f"GREETING=hello from tiny {version}"],
            "Cmd": ["/bin/busybox", "echo", f"hello from tiny {version}"],
            "Labels": {"org.opencontainers.image.title": "tiny", "org.opencontainers.image.version": version},
        },
        docker=True,
        steps=(None, f'CMD ["/bin/busybox" "echo" "hello from tiny {version}"]'),
    )


def tiny_with(*layers: oci.Layer, **settings: Any) -> oci.Image:
    """Return an OCI image of more layers on the busybox one."""
    return oci.Image((tiny_layer(), *layers), {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], **settings})


def _tiny(client: oci.Client) -> None:
    for tag, version in {"1.0": "1.0", "latest": "1.0", "2.0": "2.0"}.items():
        client.push(f"lab/tiny:{tag}", tiny(version))


def _copy(target: str, source: str) -> Build:
    def build(client: oci.Client) -> None:
        client.move(target, source)

    return build


DEBIAN_SETTINGS = {
    "Env": [
        "PATH=/opt/app/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "APP_GREETING=good day to you",
        "APP_HOME=/opt/app",
        "EMPTY=",
    ],
    "Entrypoint": ["/opt/app/bin/entry.sh", "--greeting", "good day"],
    "Cmd": ["dear world"],
    "WorkingDir": "/opt/app",
    "User": "nobody",
    "ExposedPorts": {"8080/tcp": {}},
    "Volumes": {"/opt/app/data": {}},
    "Labels": {"org.opencontainers.image.title": "debian", "org.opencontainers.image.description": "Debian & an app"},
}
_ENTRY = """#!/bin/sh
# Says what it was called with, one argument a line.
for word in "$@"; do
    echo "entry: $word"
done
"""


def _app_tar() -> bytes:
    app = tree.Tree().directory("opt").directory("opt/app").directory("opt/app/bin").directory("opt/app/data")
    app.file("opt/app/bin/entry.sh", _ENTRY, 0o755).file("opt/app/VERSION", "1.0\n")
    for number in range(200):
        app.file(f"opt/app/data/{number:03}.txt", f"record {number}\n" * 50)
    return app.tar()


def _settings_tar() -> bytes:
    change = tree.Tree().file("opt/app/VERSION", "1.1\n").whiteout("opt/app/data/000.txt")
    return change.directory("etc").file("etc/motd", "The lab's Debian.\n").tar()


def _debian(client: oci.Client) -> None:
    base, app, last = rootfs.base_tar().read_bytes(), _app_tar(), _settings_tar()
    packed = {form: oci.layer(base, "ADD rootfs", form) for form in ("gzip", "zstd")}
    apps = {form: oci.layer(app, "COPY app /opt/app", form) for form in ("gzip", "zstd")}
    lasts = {form: oci.layer(last, "RUN settings", form) for form in ("gzip", "zstd", "none")}
    steps = (None, None, "ENV APP_GREETING=good day to you", None, 'ENTRYPOINT ["/opt/app/bin/entry.sh"]')
    gzip = oci.Image((packed["gzip"], apps["gzip"], lasts["gzip"]), DEBIAN_SETTINGS, steps=steps)
    client.push("lab/debian:12", replace(gzip, docker=True))
    client.push("lab/oci:latest", gzip)
    client.push("lab/zstd:latest", replace(gzip, layers=(packed["zstd"], apps["zstd"], lasts["zstd"])))
    client.push("lab/mixed:latest", replace(gzip, layers=(packed["gzip"], apps["zstd"], lasts["none"])))


def _schema1(client: oci.Client) -> None:
    """Let the registry convert a schema 2 image, and store the signed result in its place."""
    first = oci.layer(tree.Tree().directory("one").file("one/file", "one").tar(), "ADD one")
    second = oci.layer(tree.Tree().whiteout("one/file").file("one/other", "two").tar(), "ADD two")
    steps = (None, "ENV A=1", None, "ENV A=2", "LABEL b=c", None, 'CMD ["/bin/sh"]')
    image = tiny_with(first, second, Cmd=["/bin/busybox", "cat", "/one/other"], Labels={"b": "c"})
    image.settings["Env"].append("A=2")
    where = oci.reference("lab/schema1:latest")
    modern = client.push(str(where), replace(image, docker=True, steps=steps))
    client.push("lab/schema2:latest", replace(image, docker=True, steps=steps))
    signed, media_type = client.manifest(where, (oci.SCHEMA1,))
    client.put_manifest(where, signed, media_type)
    client.delete(f"{where.repository}@{modern}")


def _foreign(architecture: str, variant: str | None) -> oci.Image:
    """Return an image for another platform: a text file that names it."""
    text = f"linux/{architecture}{'/' + variant if variant else ''}\n"
    only = oci.layer(tree.Tree().file("platform", text).tar(), "ADD platform")
    return oci.Image((only,), {"Cmd": ["/platform"]}, architecture=architecture, variant=variant)


def _native() -> oci.Image:
    platform = oci.layer(tree.Tree().file("platform", "linux/amd64\n").tar(), "ADD platform")
    return tiny_with(platform, Cmd=["/bin/busybox", "cat", "/platform"])


def _attestation(subject: oci.Image) -> tuple[oci.Image, dict[str, Any]]:
    """Return an attestation as build tools put it beside an image: for ``unknown/unknown``, with in-toto statements."""
    statement = oci.to_json({"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://example.org/lab"})
    blob = oci.Layer(statement, "none", oci.digest_of(statement), media_type="application/vnd.in-toto+json")
    about = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": oci.digest_of(subject.manifest()),
    }
    image = oci.Image((blob,), architecture="unknown", os="unknown")
    return image, {"platform": image.platform, "annotations": about}


def _multi(client: oci.Client) -> None:
    images = (_native(), _foreign("arm64", "v8"), _foreign("arm", "v7"))
    plain = oci.index(*images)
    client.push("lab/multi:latest", replace(plain, members=(*plain.members, _attestation(images[0]))))
    client.push("lab/nested:latest", oci.Index(((oci.index(*images[1:]), {}), (oci.index(images[0]), {}))))
    docker = [replace(image, docker=True) for image in images[:2]]
    client.push("lab/list:latest", oci.index(*docker, docker=True))


def _hazards(client: oci.Client) -> None:
    client.push("lab/hazards:latest", tiny_with(*hazards.layers(), Cmd=["/bin/sh"]))
    client.push("lab/hazards-sparse:latest", tiny_with(*hazards.gnu_sparse_layers(), Cmd=["/bin/sh"]))


ODD_ENVIRONMENT = {
    "BACK_QUOTES": "a `echo bad` b",
    "DOLLARS": "$HOME ${PATH} $(id) $$ $",
    "DOUBLE_QUOTES": 'say "hi"',
    "SINGLE_QUOTES": "it's",
    "BACKSLASHES": "C:\\new\\table \\",
    "NEWLINE": "one\ntwo",
    "SPACES": "  two spaces  ",
    "UNICODE": "grün 日本",
    "EQUALS": "a=b=c",
    "EMPTY": "",
    "BRACES": "a}b{c",
    "EXCLAMATION": "hi!there",
}
ODD_WORDS = ("a b", "it's", '"quoted"', "$HOME", "`id`", "*", "", "back\\slash", "one\ntwo", "grün", "-n", ";", "&&")


def _env(client: oci.Client) -> None:
    settings = {
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", *(f"{name}={value}" for name, value in ODD_ENVIRONMENT.items())],
        "Entrypoint": ["/bin/busybox", "printf", "[%s]\\n"],
        "Cmd": list(ODD_WORDS),
        "Labels": {
            "quotes": 'it\'s "so"',
            "unicode": "grün 日本",
            "with space": "yes",
            "newline": "one\ntwo",
            "empty": "",
        },
    }
    client.push("lab/env:latest", tiny_with(**settings))


def _furnished_tree() -> tree.Tree:
    """Return the files of a SIF besides its software, where somebody made a container image of it."""
    made = tree.Tree()
    for path in (".singularity.d", ".singularity.d/env", ".singularity.d/actions", ".singularity.d/libs"):
        made.directory(path, uid=5, gid=6)
    made.file(".singularity.d/Singularity", "bootstrap: library\nfrom: own/base\n", uid=5, gid=6)
    made.file(".singularity.d/runscript", "#!/bin/sh\necho its own run script\n", 0o755)
    made.file(".singularity.d/runscript.help", "How this image is used: run it.\n", 0o640, uid=5, gid=6)
    made.file(".singularity.d/startscript", "#!/bin/sh\necho its own start script\n", 0o755)
    made.file(".singularity.d/test", "#!/bin/sh\necho its own test\n", 0o755, uid=5)
    labels = {"Own": "label", "org.opencontainers.image.title": "old", "org.label-schema.schema-version": "0.1"}
    made.file(".singularity.d/labels.json", json.dumps(labels), 0o600, uid=5)
    made.file(".singularity.d/env/01-base.sh", "#!/bin/sh\nexport BASE=own\n", 0o755, uid=5, gid=6)
    made.file(".singularity.d/env/10-docker2singularity.sh", "#!/bin/sh\nexport DOCKER=own\n", 0o755)
    made.file(".singularity.d/env/20-own.sh", "#!/bin/sh\nexport TWENTY=own\n", 0o755)
    made.file(".singularity.d/env/90-environment.sh", "#!/bin/sh\nexport NINETY=own\n", 0o755)
    made.file(".singularity.d/env/91-environment.sh", "#!/bin/sh\nexport NINETY_ONE=own\n", 0o711, uid=5)
    made.file(".singularity.d/env/99-gone.sh", "#!/bin/sh\nexport GONE=own\n", 0o755)
    made.symlink(".singularity.d/env/92-link.sh", "91-environment.sh")
    made.file(".singularity.d/actions/exec", "#!/bin/sh\necho its own way to execute\n", 0o755)
    made.file(".singularity.d/actions/own", "#!/bin/sh\necho an action of its own\n", 0o755)
    for path in ("scif", "scif/apps", "scif/data"):
        made.directory(path)
    for name in ("one", "two"):
        for path in ("", "/bin", "/scif", "/scif/env"):
            made.directory(f"scif/apps/{name}{path}")
        made.directory(f"scif/data/{name}")
        made.file(f"scif/apps/{name}/bin/{name}", f"#!/bin/sh\necho {name}\n", 0o755)
        made.file(f"scif/apps/{name}/scif/runscript", f"#!/bin/sh\necho run of {name}\n", 0o755)
        made.file(f"scif/apps/{name}/scif/labels.json", json.dumps({"App": name}))
        made.file(f"scif/apps/{name}/scif/env/90-environment.sh", f"export APP_IS={name}\n", 0o755)
    made.file("scif/apps/one/scif/runscript.help", "How the application is used.\n")
    made.file("scif/apps/one/scif/test", "#!/bin/sh\necho test of one\n", 0o755)
    made.file("scif/apps/one/scif/Singularity", "%apprun one\n    echo run of one\n")
    return made


# Metadata that is elsewhere: outside of the image, if something on the host follows it, but for the first.
FURNISHED_LINKS = {
    "runscript.help": "../opt/help",
    "test": "/etc/shadow",
    "labels.json": "../../../../../../../../../etc/shadow",
    "runscript": "/tmp/written-by-an-image",
    "env/10-docker2singularity.sh": "/tmp/written-by-an-image",
}


def _furnished(client: oci.Client) -> None:
    """Push an image with metadata of its own and of applications; the next layer hides some and changes some of it."""
    first = oci.layer(_furnished_tree().tar(), "ADD rootfs")
    change = tree.Tree().whiteout(".singularity.d/env/99-gone.sh")
    change.file("scif/apps/two/scif/runscript.help", "How the second application is used.\n")
    layers = (first, oci.layer(change.tar(), "ADD change"))
    labels = {"org.opencontainers.image.title": "furnished"}
    client.push("lab/furnished:latest", tiny_with(*layers, Cmd=["/bin/busybox", "true"], Labels=labels))
    client.push("lab/furnished:unlabelled", tiny_with(*layers, Cmd=["/bin/busybox", "true"]))
    links = tree.Tree().directory(".singularity.d").directory(".singularity.d/env").file("opt/help", "help inside\n")
    for name, target in FURNISHED_LINKS.items():
        links.symlink(f".singularity.d/{name}", target)
    client.push("lab/furnished:linked", tiny_with(oci.layer(links.tar(), "ADD links"), Cmd=["/bin/busybox", "true"]))


def _many(client: oci.Client) -> None:
    shared_content = random.Random("shared").randbytes(8 << 20)
    shared = oci.layer(tree.Tree().file("shared.bin", shared_content).tar(), "ADD shared.bin", level=1)
    for number in range(1, 31):
        own = oci.layer(tree.Tree().file("number", f"{number:02}\n").tar(), "ADD number")
        layers = (shared, own) if number <= 10 else (own,)
        client.push(f"lab/many{number:02}:latest", tiny_with(*layers, Cmd=["/bin/busybox", "cat", "/number"]))


def _large(client: oci.Client) -> None:
    base = replace(tiny(), docker=False)
    layers = [large.Stream(large.incompressible(f"large-{number}", 8, 64)) for number in range(3)]
    large.push(client, "lab/large:latest", base, layers)


BENCH_TINY = tuple(f"bench/tiny{number:03}:latest" for number in range(1, 101))


def _bench_tiny(client: oci.Client) -> None:
    for number, name in enumerate(BENCH_TINY, 1):
        own = oci.layer(tree.Tree().file("number", f"{number:03}\n").tar(), "ADD number")
        client.push(name, tiny_with(own, Cmd=["/bin/busybox", "cat", "/number"]))


def _streamed(name: str, layers: Callable[[], list[large.Stream]]) -> Recipe:
    """Return the recipe of an image on nothing, of layers that are made when it is asked for."""
    base = oci.Image((), {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["/bin/bash"]})

    def build(client: oci.Client) -> None:
        large.push(client, name, base, layers())

    return Recipe(1, (name,), build, on_demand=True)


RECIPES: tuple[Recipe, ...] = (
    Recipe(3, ("lab/tiny:1.0", "lab/tiny:latest", "lab/tiny:2.0"), _tiny),
    Recipe(3, ("lab/moving:latest",), _copy("lab/moving:latest", "lab/tiny:1.0")),
    Recipe(3, ("secret/tiny:latest",), _copy("secret/tiny:latest", "lab/tiny:1.0")),
    Recipe(4, ("lab/schema1:latest", "lab/schema2:latest"), _schema1),
    Recipe(3, ("lab/multi:latest", "lab/nested:latest", "lab/list:latest"), _multi),
    Recipe(7, ("lab/hazards:latest", "lab/hazards-sparse:latest"), _hazards),
    Recipe(3, ("lab/env:latest",), _env),
    Recipe(2, ("lab/furnished:latest", "lab/furnished:unlabelled", "lab/furnished:linked"), _furnished),
    Recipe(3, tuple(f"lab/many{number:02}:latest" for number in range(1, 31)), _many),
    Recipe(1, ("lab/debian:12", "lab/oci:latest", "lab/zstd:latest", "lab/mixed:latest"), _debian),
    Recipe(3, ("lab/large:latest",), _large, on_demand=True),
    _streamed("bench/compiler:latest", workloads.compiler),
    _streamed("bench/science:latest", workloads.science),
    _streamed("bench/files:latest", workloads.files),
    _streamed("bench/single:latest", workloads.single),
    _streamed("bench/huge:latest", huge.layers),
    _streamed("bench/huge-tenth:latest", lambda: huge.layers(10)),
    Recipe(1, BENCH_TINY, _bench_tiny, on_demand=True),
)
