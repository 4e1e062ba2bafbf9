# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifacts other than images that registries hold, known by their media types: their names, and the way out.

Sources: the projects' own specifications, and "Guidelines for Artifact Usage" of the OCI image specification
(manifest.md), after which ``artifactType``, else the type of the config, tells what it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..text import shown

_OF_AN_IMAGE = "name the image that it belongs to instead"
_CACHE = "name the image that was built with it instead, which has a tag of its own"
_NOTHING = "it has no layers to build from; name an image instead"
_EMPTY = "application/vnd.oci.empty.v1+json"

# Where a media type begins: what it is, and the way out.
_KINDS = {
    "application/vnd.dev.cosign.simplesigning.": ("a signature that cosign has made", _OF_AN_IMAGE),
    "application/vnd.dev.cosign.artifact.sig": ("a signature that cosign has made", _OF_AN_IMAGE),
    "application/vnd.dev.sigstore.bundle": ("a signature or attestation of Sigstore", _OF_AN_IMAGE),
    "application/vnd.cncf.notary.signature": ("a signature of Notation", _OF_AN_IMAGE),
    "application/vnd.dsse.envelope.": ("an attestation", _OF_AN_IMAGE),
    "application/vnd.in-toto": ("an attestation", _OF_AN_IMAGE),
    "application/spdx": ("a list of components (SBOM)", _OF_AN_IMAGE),
    "text/spdx": ("a list of components (SBOM)", _OF_AN_IMAGE),
    "application/vnd.cyclonedx": ("a list of components (SBOM)", _OF_AN_IMAGE),
    "application/vnd.syft": ("a list of components (SBOM)", _OF_AN_IMAGE),
    "application/vnd.buildkit.cacheconfig.": ("a build cache of BuildKit", _CACHE),
    "application/vnd.cncf.helm.": (
        "a Helm chart",
        "name one of the images that it uses instead, which 'helm template' shows",
    ),
    "application/vnd.cncf.flux.": ("a source of Flux", _NOTHING),
    "application/vnd.cncf.model.": ("a model", "'oras pull' or 'modctl pull' fetches it"),
    "application/vnd.docker.ai.": ("a model", "'docker model pull' fetches it"),
    "application/vnd.ollama.": ("a model of Ollama", "'ollama pull' fetches it"),
    "application/vnd.docker.plugin.": ("a plugin of Docker", _NOTHING),
    "application/vnd.wasm.": ("a WebAssembly module", _NOTHING),
    "application/wasm": ("a WebAssembly module", _NOTHING),
}


def describe(types: Iterable[str]) -> tuple[str, str] | None:
    """Return the name of an artifact with one of some media types, and the way out; None if none is known."""
    for media_type in types:
        for begin, kind in _KINDS.items():
            if media_type.lower().startswith(begin):
                return kind
    return None


def describe_any(artifact_type: str, config_type: str, layer_types: Iterable[str]) -> tuple[str, str]:
    """Return the same for what is known not to be an image: of an unknown artifact, the type is shown."""
    known = describe((artifact_type, config_type, *layer_types))
    of_config = config_type if config_type != _EMPTY else ""
    given = artifact_type or of_config or next(iter(layer_types), "") or config_type
    return known or (f"an artifact of type {shown(given)!r}", _NOTHING)
