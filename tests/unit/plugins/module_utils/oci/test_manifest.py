# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading indexes, manifests and configs, and choosing the manifest of a platform."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidManifest, PlatformNotFound
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.config import parse_config
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.manifest import (
    ImageManifest,
    Index,
    choose,
    parse_manifest,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.schema1 import SCHEMA1_EMPTY_LAYER, Schema1

WHAT = "quay.io/org/app:1"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def entry(number: int, platform: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an entry of an index."""
    if platform:
        system, architecture, *variant = platform.split("/")
        more["platform"] = {"os": system, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
    return {"mediaType": OCI_IMAGE, "digest": digest(number), "size": number, **more}


def image(**changes: Any) -> dict[str, Any]:
    """Return a valid image manifest with two layers, some keys changed or, with None, left out."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": {"mediaType": OCI_CONFIG, "digest": digest(1), "size": 10},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(2), "size": 20},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": digest(3), "size": 0},
        ],
        **changes,
    }
    return {key: value for key, value in document.items() if value is not None}


def schema1(*layers: tuple[str, dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """Return a schema 1 manifest of (digest, compatibility) pairs, the newest first."""
    return {
        "schemaVersion": 1,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": blob} for blob, _compatibility in layers],
        "history": [{"v1Compatibility": json.dumps(compatibility)} for _blob, compatibility in layers],
        **changes,
    }


def parse(document: Any, media_type: str = OCI_IMAGE) -> Index | ImageManifest | Schema1:
    return parse_manifest(json.dumps(document).encode(), media_type, WHAT)


def test_an_image_keeps_the_order_of_its_layers() -> None:
    assert parse(image()) == ImageManifest(
        Descriptor(digest(1), 10, OCI_CONFIG),
        (
            Descriptor(digest(2), 20, "application/vnd.oci.image.layer.v1.tar+gzip"),
            Descriptor(digest(3), 0, "application/vnd.oci.image.layer.v1.tar+zstd"),
        ),
    )


@pytest.mark.parametrize(
    ("document", "media_type", "kind"),
    [
        (image(), OCI_IMAGE, ImageManifest),
        (image(mediaType=None), OCI_IMAGE, ImageManifest),
        (image(mediaType=None), "application/json", ImageManifest),
        (image(mediaType=None), "", ImageManifest),
        (image(mediaType=DOCKER_IMAGE), "text/plain", ImageManifest),
        ({"schemaVersion": 2, "manifests": []}, OCI_INDEX, Index),
        ({"schemaVersion": 2, "manifests": []}, DOCKER_LIST, Index),
        ({"schemaVersion": 2, "manifests": []}, "application/json", Index),
        ({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": []}, "application/json", Index),
        ({"mediaType": 7, "manifests": []}, OCI_INDEX, Index),
        (schema1((digest(1), {})), SCHEMA1, Schema1),
        (schema1((digest(1), {})), "application/json", Schema1),
    ],
)
def test_the_kind_is_told_by_the_document_and_else_by_the_answer(
    document: dict[str, Any], media_type: str, kind: type
) -> None:
    assert parse(document, media_type).__class__ is kind


@pytest.mark.parametrize(
    "config_type",
    [
        OCI_CONFIG,
        "application/vnd.docker.container.image.v1+json",
        "application/octet-stream",
        "application/json",
        "text/html",
        "",
        None,
    ],
)
def test_the_config_of_an_image_may_have_each_type_that_docker_takes_for_one(config_type: str | None) -> None:
    parsed = parse(image(config={"mediaType": config_type, "digest": digest(1), "size": 1}))
    assert isinstance(parsed, ImageManifest)
    assert parsed.config.digest == digest(1)


OF_AN_IMAGE = "name the image that it belongs to instead"
NOTHING = "it has no layers to build from; name an image instead"
EMPTY = "application/vnd.oci.empty.v1+json"


@pytest.mark.parametrize(
    ("artifact_type", "config_type", "layer_type", "told"),
    [
        (
            None,
            OCI_CONFIG,
            "application/vnd.dev.cosign.simplesigning.v1+json",
            f"a signature that cosign has made; {OF_AN_IMAGE}",
        ),
        (None, OCI_CONFIG, "application/vnd.dsse.envelope.v1+json", f"an attestation; {OF_AN_IMAGE}"),
        (None, OCI_CONFIG, "application/vnd.in-toto+json", f"an attestation; {OF_AN_IMAGE}"),
        (
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            EMPTY,
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            f"a signature or attestation of Sigstore; {OF_AN_IMAGE}",
        ),
        (
            None,
            "application/vnd.cncf.notary.signature",
            "application/jose+json",
            f"a signature of Notation; {OF_AN_IMAGE}",
        ),
        (None, OCI_CONFIG, "text/spdx+json", f"a list of components (SBOM); {OF_AN_IMAGE}"),
        (
            None,
            "application/vnd.buildkit.cacheconfig.v0",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "a build cache of BuildKit; name the image that was built with it instead, which has a tag of its own",
        ),
        (
            None,
            "application/vnd.cncf.helm.config.v1+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            "a Helm chart; name one of the images that it uses instead, which 'helm template' shows",
        ),
        (
            None,
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.ollama.image.model",
            "a model of Ollama; 'ollama pull' fetches it",
        ),
        ("application/x-own", EMPTY, "text/plain", f"an artifact of type 'application/x-own'; {NOTHING}"),
        (None, "application/x-config", "text/plain", f"an artifact of type 'application/x-config'; {NOTHING}"),
        (None, EMPTY, "text/plain", f"an artifact of type 'text/plain'; {NOTHING}"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(
    artifact_type: str | None, config_type: str, layer_type: str, told: str
) -> None:
    document = image(
        config={"mediaType": config_type, "digest": digest(1), "size": 1},
        layers=[{"mediaType": layer_type, "digest": digest(2), "size": 2}],
        **({"artifactType": artifact_type} if artifact_type else {}),
    )
    with pytest.raises(InvalidManifest) as error:
        parse(document)
    assert str(error.value) == f"{WHAT} is not a container image but {told}"


def test_a_build_cache_that_is_an_index_is_called_so() -> None:
    cache = {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": digest(1), "size": 1}
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(2), "size": 2}
    with pytest.raises(InvalidManifest, match="is not a container image but a build cache of BuildKit; name the image"):
        parse({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [layer, cache]}, OCI_INDEX)


@pytest.mark.parametrize("artifact_type", [None, "application/x-own"])
def test_an_image_may_say_what_it_is_for(artifact_type: str | None) -> None:
    assert isinstance(parse(image(**({"artifactType": artifact_type} if artifact_type else {}))), ImageManifest)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "it is not a JSON object"),
        ("text", "it is not a JSON object"),
        (None, "it is not a JSON object"),
        ({}, "it is neither an index nor an image (media type '')"),
        ({"errors": []}, "it is neither an index nor an image (media type '')"),
        (image(config=None), "an entry of 'config' is not an object"),
        (image(config=[]), "an entry of 'config' is not an object"),
        (image(layers=None), "'layers' is not a list"),
        (image(layers={}), "'layers' is not a list"),
        (image(layers=["x"]), "an entry of 'layers' is not an object"),
        (image(layers=[{"digest": digest(1)}]), "an entry of 'layers' has no size"),
        (image(layers=[{"digest": digest(1), "size": -1}]), "an entry of 'layers' has no size"),
        (image(layers=[{"digest": digest(1), "size": True}]), "an entry of 'layers' has no size"),
        (image(layers=[{"digest": digest(1), "size": "7"}]), "an entry of 'layers' has no size"),
        (image(layers=[{"digest": digest(1), "size": 7.5}]), "an entry of 'layers' has no size"),
        (image(layers=[{"size": 7}]), "the digest '' must begin with 'sha256:' or 'sha512:'"),
        (image(layers=[{"size": 7, "digest": 5}]), "the digest '' must begin with"),
        (image(layers=[{"size": 7, "digest": "sha256:../../etc"}]), "must have 64 lower-case hexadecimal digits"),
        ({"mediaType": OCI_INDEX}, "'manifests' is not a list"),
        ({"mediaType": OCI_INDEX, "manifests": [7]}, "an entry of 'manifests' is not an object"),
        ({"mediaType": OCI_INDEX, "manifests": [{}]}, "an entry of 'manifests' has no size"),
    ],
)
def test_a_malformed_manifest_is_refused_with_the_part_that_is_wrong(document: Any, why: str) -> None:
    with pytest.raises(InvalidManifest) as error:
        parse(document, "")
    assert str(error.value).startswith(f"malformed manifest of {WHAT}: ")
    assert why in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b"\xff\xff", b"[" * 200_000])
def test_what_is_not_json_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidManifest, match=f"^malformed manifest of {WHAT}: it is not JSON$"):
        parse_manifest(content, OCI_IMAGE, WHAT)
    with pytest.raises(InvalidManifest, match=f"^malformed config of {WHAT}: it is not JSON$"):
        parse_config(content, WHAT)


def index(*entries: dict[str, Any]) -> Index:
    parsed = parse({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})
    assert isinstance(parsed, Index)
    return parsed


ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}


@pytest.mark.parametrize(
    ("entries", "wanted", "chosen"),
    [
        ([entry(1, "linux/amd64"), entry(2, "linux/arm64")], "linux/arm64", 2),
        ([entry(1, "linux/arm64/v8")], "linux/arm64", 1),
        ([entry(1, "linux/amd64"), entry(2, "linux/amd64")], "linux/amd64", 1),
        ([entry(1, "linux/amd64"), entry(2, "linux/amd64/v3")], "linux/amd64", 1),
        ([entry(1, "linux/amd64"), entry(2, "linux/amd64/v2"), entry(3, "linux/amd64/v4")], "linux/amd64/v3", 2),
        ([entry(1, "linux/arm/v5"), entry(2, "linux/arm/v6"), entry(3, "linux/arm/v7")], "linux/arm/v6", 2),
        ([entry(1, "linux/arm/v5"), entry(2, "linux/arm/v6")], "linux/arm/v7", 2),
        ([entry(1, "windows/amd64"), entry(2, "linux/amd64")], "linux/amd64", 2),
        ([entry(1, "unknown/unknown"), entry(2, "linux/amd64")], "linux/amd64", 2),
        ([entry(1, "linux/amd64", annotations=ATTESTATION), entry(2, "linux/amd64")], "linux/amd64", 2),
        ([entry(1), entry(2, "linux/amd64")], "linux/amd64", 2),
        ([entry(1), entry(2, "linux/arm64")], "linux/amd64", 1),
        ([{**entry(1), "platform": None}, entry(2)], "linux/amd64", 1),
        ([{**entry(1), "platform": {"os": "", "architecture": ""}}], "linux/amd64", 1),
        ([{**entry(1), "platform": {"os": None}, "annotations": None}], "linux/amd64", 1),
    ],
)
def test_the_manifest_that_serves_the_platform_best_is_chosen(
    entries: list[dict[str, Any]], wanted: str, chosen: int
) -> None:
    assert choose(index(*entries), Platform.parse(wanted), WHAT).digest == digest(chosen)


@pytest.mark.parametrize(
    ("entries", "has"),
    [
        ([entry(1, "linux/amd64"), entry(2, "linux/arm/v7"), entry(3, "linux/amd64")], "linux/amd64, linux/arm"),
        ([entry(1, "linux/s390x/v2"), entry(2, "unknown/unknown")], "linux/s390x/v2"),
    ],
)
def test_a_missing_platform_is_answered_with_those_that_exist(entries: list[dict[str, Any]], has: str) -> None:
    with pytest.raises(PlatformNotFound) as error:
        choose(index(*entries), Platform.parse("linux/s390x"), WHAT)
    assert str(error.value) == f"no linux/s390x in {WHAT} (it has {has}); choose one of these with platform"


@pytest.mark.parametrize("entries", [[], [entry(1, "unknown/unknown")], [entry(1, annotations=ATTESTATION)]])
def test_an_index_without_an_image_is_no_dead_end(entries: list[dict[str, Any]]) -> None:
    with pytest.raises(PlatformNotFound) as error:
        choose(index(*entries), Platform.parse("linux/s390x"), WHAT)
    assert str(error.value).startswith(f"no image in {WHAT}: its index has nothing, or only attestations of images")
    assert "choose one" not in str(error.value)


def test_a_config_tells_platform_diff_ids_and_time() -> None:
    document = {
        "created": "2024-05-01T00:00:00Z",
        "os": "linux",
        "architecture": "arm64",
        "variant": "v8",
        "config": {"Env": ["A=ü"], "Entrypoint": None, "Cmd": ["sh"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": [digest(1), digest(2)]},
    }
    config = parse_config(json.dumps(document).encode(), WHAT)
    assert config.platform == Platform("linux", "arm64")
    assert config.diff_ids == (digest(1), digest(2))
    assert config.created == "2024-05-01T00:00:00Z"
    assert config.document == document


@pytest.mark.parametrize(
    ("created", "moment"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01Z", 1),
        ("2024-05-01T12:34:56Z", 1714566896),
        ("2024-05-01t12:34:56z", 1714566896),
        ("2024-05-01T12:34:56.999999999Z", 1714566896),
        ("2024-05-01T12:34:56.1Z", 1714566896),
        ("2024-05-01T14:34:56+02:00", 1714566896),
        ("2024-05-01T07:04:56.5-05:30", 1714566896),
        ("2024-05-01T12:34:56-00:00", 1714566896),
        ("2024-02-29T23:59:59Z", 1709251199),
        ("2016-12-31T23:59:60Z", 1483228800),  # a leap second
        ("2106-02-07T06:28:15Z", 2**32 - 1),
        ("2106-02-07T06:28:16Z", 0),
        ("2106-02-07T07:28:15+01:00", 2**32 - 1),
        ("9999-12-31T23:59:59Z", 0),
        ("1969-12-31T23:59:59Z", 0),
        ("1970-01-01T00:00:00+00:01", 0),
        ("1969-12-31T23:59:59-00:01", 59),
        ("0001-01-01T00:00:00Z", 0),
        ("0000-00-00T00:00:00Z", 0),
        ("2024-13-01T00:00:00Z", 0),
        ("2024-05-01 12:34:56Z", 0),
        ("2024-05-01T12:34:56", 0),
        ("2024-05-01T12:34:56.Z", 0),
        ("2024-05-01T12:34:56Z\n", 0),
        (" 2024-05-01T12:34:56Z", 0),
        ("2024-05-01", 0),
        ("\u0662\u0660\u0662\u0664-05-01T12:34:56Z", 0),  # digits of another script
        ("+2024-05-01T12:34:56Z", 0),
        ("yesterday", 0),
        ("", 0),
        (1714566896, 0),
        (None, 0),
    ],
)
def test_the_moment_of_an_image_is_its_time_in_seconds(created: Any, moment: int) -> None:
    assert parse_config(json.dumps({"created": created}).encode(), WHAT).moment == moment


@pytest.mark.parametrize(
    ("told", "claimed", "platform"),
    [
        ({"architecture": "amd64"}, None, "linux/amd64"),
        ({"architecture": "arm64", "os": ""}, None, "linux/arm64"),
        ({"architecture": "arm64", "os": None, "variant": "v8"}, None, "linux/arm64"),
        ({"architecture": "amd64"}, "windows/amd64", "windows/amd64"),
        ({"architecture": "amd64", "os": "freebsd"}, "linux/amd64", "freebsd/amd64"),
        ({}, "linux/arm64", "linux/arm64"),
    ],
)
def test_an_image_without_an_os_is_one_for_linux(told: dict[str, Any], claimed: str | None, platform: str) -> None:
    config = parse_config(json.dumps(told).encode(), WHAT, Platform.parse(claimed) if claimed else None)
    assert config.platform == Platform.parse(platform)


def test_an_image_without_a_time_is_of_the_epoch() -> None:
    assert parse_config(b"{}", WHAT).moment == 0


@pytest.mark.parametrize("document", [{}, {"config": None, "rootfs": None}, {"config": {}, "created": 7, "rootfs": []}])
def test_what_a_config_does_not_say_is_empty_but_for_linux(document: dict[str, Any]) -> None:
    config = parse_config(json.dumps(document).encode(), WHAT)
    assert config.platform == Platform("linux", "")
    assert config.diff_ids is None
    assert config.created is None
    assert config.document["config"] == {}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "it is not a JSON object"),
        ({"rootfs": {"diff_ids": "x"}}, "rootfs.diff_ids is not a list of digests"),
        ({"rootfs": {"diff_ids": [7]}}, "rootfs.diff_ids is not a list of digests"),
        ({"config": []}, "'config' is not an object"),
        ({"config": {"Env": "A=b"}}, "'config.Env' is not a list of strings"),
        ({"config": {"Env": [7]}}, "'config.Env' is not a list of strings"),
        ({"config": {"Entrypoint": "sh"}}, "'config.Entrypoint' is not a list of strings"),
        ({"config": {"Cmd": {"a": 1}}}, "'config.Cmd' is not a list of strings"),
        ({"config": {"Labels": ["a"]}}, "'config.Labels' is not an object"),
    ],
)
def test_a_malformed_config_is_refused_with_the_part_that_is_wrong(document: Any, why: str) -> None:
    with pytest.raises(InvalidManifest) as error:
        parse_config(json.dumps(document).encode(), WHAT)
    assert str(error.value) == f"malformed config of {WHAT}: {why}"


def test_schema_1_has_its_layers_turned_round_and_the_newest_config() -> None:
    parsed = parse(
        schema1(
            (SCHEMA1_EMPTY_LAYER, {"id": "c", "parent": "b", "config": {"Env": ["NEW=1"]}, "os": "linux", "Size": 0}),
            (digest(2), {"id": "b", "parent": "a", "config": {"Env": ["OLD=1"]}}),
            (digest(2), {"id": "b2", "throwaway": True}),
            (digest(1), {"id": "a", "config": {"Env": ["OLDEST=1"]}}),
        )
    )
    assert isinstance(parsed, Schema1)
    assert parsed.layers == (Descriptor(digest(1), None), Descriptor(digest(2), None))
    assert parsed.config.document == {"config": {"Env": ["NEW=1"]}, "os": "linux", "architecture": "amd64"}
    assert parsed.config.diff_ids is None


@pytest.mark.parametrize(
    ("compatibility", "changes", "platform"),
    [
        ({"architecture": "arm64", "os": "linux"}, {"architecture": "amd64"}, "linux/arm64"),
        ({}, {"architecture": "arm64"}, "linux/arm64"),
        ({}, {"architecture": ""}, "linux/amd64"),
        ({"os": "windows"}, {}, "windows/amd64"),
    ],
)
def test_the_platform_of_schema_1(compatibility: dict[str, Any], changes: dict[str, Any], platform: str) -> None:
    parsed = parse(schema1((digest(1), compatibility), **changes))
    assert isinstance(parsed, Schema1)
    assert str(parsed.config.platform) == platform


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (schema1(), "malformed schema 1 manifest of {}: fsLayers and history differ in length"),
        (
            schema1((digest(1), {}), history=[]),
            "malformed schema 1 manifest of {}: fsLayers and history differ in length",
        ),
        ({"schemaVersion": 1}, "malformed manifest of {}: 'fsLayers' is not a list"),
        (schema1((digest(1), {}), history=7), "malformed manifest of {}: 'history' is not a list"),
        (
            schema1((digest(1), {}), fsLayers=[7]),
            "malformed schema 1 manifest of {}: layer 0 lacks blobSum or v1Compatibility",
        ),
        (
            schema1((digest(1), {}), history=[{}]),
            "malformed schema 1 manifest of {}: layer 0 lacks blobSum or v1Compatibility",
        ),
        (
            schema1((digest(1), {}), history=[{"v1Compatibility": "\ud800"}]),
            "malformed manifest of {}: it has a text or number that JSON cannot tell",
        ),
        (
            schema1((digest(1), {}), history=[{"v1Compatibility": "[]"}]),
            "malformed v1Compatibility of {}: it is not a JSON object",
        ),
        (schema1((digest(1), {"config": {"Env": 1}})), "malformed config of {}: 'config.Env' is not a list of strings"),
        (schema1(("sha256:x", {})), "malformed manifest of {}: invalid digest 'sha256:x': "),
    ],
)
def test_a_malformed_schema_1_manifest_is_refused(document: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidManifest) as error:
        parse(document)
    assert str(error.value).startswith(why.format(WHAT))


# What a hostile registry may send


def nest(levels: int, kind: str) -> str:
    """Return a JSON document with so many levels of lists or objects."""
    if kind == "list":
        return '{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"
    return '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("levels", [101, 900, 100_000])
def test_a_document_that_nests_too_deep_is_refused(levels: int, kind: str) -> None:
    with pytest.raises(InvalidManifest, match=f"malformed config of {WHAT}"):
        parse_config(nest(levels, kind).encode(), WHAT)


@pytest.mark.parametrize("kind", ["list", "object"])
def test_a_document_of_the_deepest_nesting_is_read(kind: str) -> None:
    assert parse_config(nest(100, kind).encode(), WHAT).diff_ids is None


@pytest.mark.parametrize(
    "value", [rb'"\ud800"', b'"\xed\xa0\x80"', rb'{"\udfff": 1}', b"NaN", b"[-Infinity]", b"1e999"]
)
def test_what_json_cannot_tell_again_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidManifest, match=f"malformed config of {WHAT}: it has a text or number"):
        parse_config(b'{"a": ' + value + b"}", WHAT)


@pytest.mark.parametrize("diff_id", ["evil:x", "shake_128:x", "sha256:", "../../etc/passwd", "sha256:" + "A" * 64])
def test_a_diff_id_that_is_no_digest_is_refused(diff_id: str) -> None:
    document = {"rootfs": {"diff_ids": [digest(1), diff_id]}}
    with pytest.raises(InvalidManifest, match=f"malformed config of {WHAT}: invalid digest"):
        parse_config(json.dumps(document).encode(), WHAT)


@pytest.mark.parametrize("size", [2**63, 10**400])
def test_a_size_that_no_file_can_have_is_refused(size: int) -> None:
    with pytest.raises(InvalidManifest, match="an entry of 'config' claims a size above"):
        parse(image(config={"mediaType": OCI_CONFIG, "digest": digest(1), "size": size}))


def test_the_largest_size_is_accepted() -> None:
    parsed = parse(image(config={"mediaType": OCI_CONFIG, "digest": digest(1), "size": 2**63 - 1}))
    assert isinstance(parsed, ImageManifest)
    assert parsed.config.size == 2**63 - 1


def test_escape_sequences_of_a_document_do_not_reach_a_message() -> None:
    document = {"os": "\x1b[2J", "architecture": "amd64\r\n", "variant": "v" * 1000}
    platform = parse_config(json.dumps(document).encode(), WHAT).platform
    assert str(platform).isprintable()
    assert len(str(platform)) < 200
    with pytest.raises(InvalidManifest) as caught:
        parse({"schemaVersion": 2, "mediaType": "\x1b[2J" * 1000})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    (descriptor,) = parse({"manifests": [{**entry(1), "mediaType": "\x1b[2J"}]}, OCI_INDEX).manifests  # type: ignore[union-attr]
    assert descriptor.media_type.isprintable()


def test_an_empty_platform_of_schema_1_is_the_usual_one() -> None:
    parsed = parse(schema1((digest(1), {"architecture": "", "os": None}), architecture="arm64"), SCHEMA1)
    assert isinstance(parsed, Schema1)
    assert parsed.config.platform == Platform("linux", "arm64")
