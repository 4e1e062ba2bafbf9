# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Strategies of hypothesis: valid references, platforms and inventory documents, in the form that parsing gives."""

from __future__ import annotations

import re
import string
from typing import Any

from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from hypothesis import strategies as st

_LOWER = string.ascii_lowercase + string.digits
_HEX = "0123456789abcdef"
_ALIASES = {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}


def _joined(part: st.SearchStrategy[str], separators: tuple[str, ...], least: int, most: int) -> st.SearchStrategy[str]:
    """Draw parts with separators between them: ``a``, ``a.b``, ``a__b-c``."""
    pairs = st.tuples(st.sampled_from(separators), part)
    return st.tuples(part, st.lists(pairs, min_size=least - 1, max_size=most - 1)).map(
        lambda drawn: drawn[0] + "".join(separator + more for separator, more in drawn[1])
    )


words = st.text(_LOWER, min_size=1, max_size=8)
host_labels = _joined(words, ("-", "--"), 1, 2)
host_names = st.one_of(
    _joined(host_labels, (".",), 2, 4).filter(lambda host: host not in _ALIASES),
    st.just("localhost"),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
ports = st.integers(0, 65535).map(lambda port: f":{port}")
registries = st.one_of(
    host_names,
    st.builds(str.__add__, host_names, ports),
    st.builds(str.__add__, host_labels, ports),  # a single label is a host if it has a port
)
components = _joined(words, (".", "_", "__", "-", "---"), 1, 3)
tags = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_letters + string.digits + "_"),
    st.text(string.ascii_letters + string.digits + "_.-", max_size=127),
)
digests = st.one_of(
    st.text(_HEX, min_size=64, max_size=64).map("sha256:".__add__),
    st.text(_HEX, min_size=128, max_size=128).map("sha512:".__add__),
)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    """Draw any reference that parsing can give."""
    hub = draw(st.booleans())
    registry = "docker.io" if hub else draw(registries)
    repository = "/".join(draw(st.lists(components, min_size=2 if hub else 1, max_size=5)))
    if draw(st.booleans()):
        return Reference(registry, repository, digest=draw(digests))
    return Reference(registry, repository, tag=draw(tags))


@st.composite
def web_references(draw: st.DrawFn) -> Reference:
    """Draw any reference to a file on a web server, with no query."""
    scheme, other = draw(st.sampled_from([("https", ":443"), ("http", ":80")]))
    registry = draw(registries.filter(lambda host: not host.endswith(other)))
    path = draw(st.lists(st.text(string.ascii_letters + string.digits + "_:+~-", min_size=1), min_size=1, max_size=4))
    return Reference(registry, "/".join(path), None, draw(st.none() | digests), scheme)


oras_references = references().map(
    lambda reference: Reference(reference.registry, reference.repository, reference.tag, reference.digest, "oras")
)
any_references = st.one_of(references(), oras_references, web_references())

platforms = st.builds(
    Platform.of,
    st.sampled_from(["linux", "windows", "darwin", "freebsd"]),
    st.sampled_from(["amd64", "x86_64", "arm64", "aarch64", "arm", "armv6l", "armel", "386", "ppc64le", "riscv64"]),
    st.sampled_from(["", "v1", "v5", "v6", "v7", "v8", "9"]),
)

# Bytes of a path that are no UTF-8 are lone surrogates in Python.
paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
undecodable_paths = st.binary(min_size=1, max_size=12).map(
    lambda raw: raw.replace(b"\0", b"-").decode("utf-8", "surrogateescape")
)
times = st.datetimes().map(lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20))
sizes = st.integers(0, 2**53)

_engines = st.sampled_from(["apptainer", "singularity-ce", "singularity"])
_levels = st.integers(1, 22).map(str)
_compressions = st.sampled_from(["zstd", "gzip", "lz4", "xz"])
_commands = st.sampled_from(["entrypoint", "cmd"])
_yes_or_no = st.sampled_from(["yes", "no"])
_image_inputs = {"command": _commands, "reproducible": _yes_or_no, "engine": _engines}
_engine_inputs = {"definition": digests, "fakeroot": _yes_or_no, "engine": _engines}
_optional_inputs = {"from": st.text(min_size=1), "files": digests, "sections": st.just("files,post")}


def _files(sandbox: bool, builder: st.SearchStrategy[str], inputs: dict[str, Any], **more: Any) -> Any:
    """Draw files, or sandboxes, of some builders with some inputs."""
    return st.builds(
        File,
        path=st.one_of(paths, undecodable_paths).map("/".__add__),
        size=sizes,
        mtime_ns=st.integers(0, 2**62),
        sha256=st.just("") if sandbox else st.text(_HEX, min_size=64, max_size=64),
        inputs=st.fixed_dictionaries({"format": st.just("sandbox" if sandbox else "sif"), **inputs}, **more),
        engine_version=st.text(min_size=1, max_size=20),
        builder=builder,
        created_at=times,
        manifest_digest=st.one_of(st.none(), digests),
        packer=st.one_of(st.none(), st.text(min_size=1, max_size=20)),
    )


files = st.one_of(
    _files(
        False,
        st.sampled_from(["stream", "sandbox"]),
        {**_image_inputs, "compression": _compressions},
        optional={"level": _levels},
    ),
    _files(True, st.just("sandbox"), _image_inputs),
    _files(True, st.just("engine"), _engine_inputs, optional=_optional_inputs),
    _files(
        False,
        st.just("engine"),
        _engine_inputs,
        optional={**_optional_inputs, "compression": _compressions, "level": _levels},
    ),
)
layers = st.fixed_dictionaries(
    {"digest": digests, "size": st.one_of(st.none(), sizes), "media_type": st.text(max_size=30)}
)
# Labels and the like are any JSON; a config may hold half a surrogate pair as an escape.
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.text(st.characters(exclude_categories=[]))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
).filter(lambda value: not _has_split_pair(value))


def _has_split_pair(value: Any) -> bool:
    """Tell whether a text has both halves of a surrogate pair as two characters: JSON knows them only as one."""
    if isinstance(value, str):
        return bool(re.search("[\ud800-\udbff][\udc00-\udfff]", value))
    if isinstance(value, dict):
        return any(_has_split_pair(item) for pair in value.items() for item in pair)
    return isinstance(value, list) and any(_has_split_pair(item) for item in value)


documents = st.builds(
    Document,
    reference=any_references,
    platform=platforms,
    digest=digests,
    manifest_digest=digests,
    media_type=st.text(max_size=40),
    layers=st.lists(layers, max_size=3).map(tuple),
    size=st.one_of(st.none(), sizes),
    metrics=st.dictionaries(
        st.sampled_from(["index", "manifest", "config"]), st.dictionaries(st.text(max_size=8), values, max_size=3)
    ),
    created_at=times,
    updated_at=times,
    files=st.lists(files, max_size=3, unique_by=lambda file: file.path).map(tuple),
)
