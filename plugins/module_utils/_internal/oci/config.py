# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configs of images, of schema 1 as well (OCI image specification, config.md)."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidManifest
from ..text import printable
from .json_document import need_digest, parse_object
from .platform import Platform

_MAX_PLATFORM_PART = 64  # characters

_RFC3339 = re.compile(
    r"\A(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))\Z", re.ASCII
)


@dataclass(frozen=True)
class Config:
    """The config of an image: what it says of itself.

    ``document`` is the whole JSON object, ``diff_ids`` the digests of the tar archives.
    """

    platform: Platform
    diff_ids: tuple[str, ...] | None
    document: dict[str, Any] = field(repr=False)

    @property
    def created(self) -> str | None:
        """The image's own time stamp (RFC 3339), if it has one."""
        created = self.document.get("created")
        return created if isinstance(created, str) else None

    @property
    def moment(self) -> int:
        """The same in seconds since the epoch; 0 if there is none, or none that a file system can hold."""
        match = _RFC3339.match(self.created or "")
        if not match:
            return 0
        *date, sign, hours, minutes = match.groups()
        offset = (int(hours or 0) * 60 + int(minutes or 0)) * (-60 if sign == "-" else 60)
        try:
            seconds = calendar.timegm(tuple(map(int, date))) - offset
        except ValueError:
            return 0
        return seconds if 0 <= seconds < 2**32 else 0


def parse_config(content: bytes, what: object, claimed: Platform | None = None) -> Config:
    """Read an image config (OCI image specification, config.md). Without an ``os`` it is one for Linux, as all were
    once.

    :param claimed: the platform that somebody else says it is for; it counts where the config does not tell its own.
    :raises InvalidManifest: if it is malformed.
    """
    document = parse_object(content, what, "config")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if diff_ids is not None and not (isinstance(diff_ids, list) and all(isinstance(d, str) for d in diff_ids)):
        raise InvalidManifest(f"malformed config of {what}: rootfs.diff_ids is not a list of digests")
    for diff_id in diff_ids or ():
        need_digest(diff_id, what, "config")
    check_run_config(document, what)
    platform = parse_platform(document)
    if not (platform.os and platform.architecture):
        platform = claimed or Platform.of("linux", platform.architecture, platform.variant)
    return Config(platform, tuple(diff_ids) if diff_ids is not None else None, document)


def check_run_config(document: dict[str, Any], what: object) -> None:
    """Check the part ``config`` of a config; an absent one becomes an empty one.

    :raises InvalidManifest: if it is malformed.
    """
    run = document.get("config")
    if run is None:
        document["config"] = run = {}
    if not isinstance(run, dict):
        raise InvalidManifest(f"malformed config of {what}: 'config' is not an object")
    for key in ("Env", "Entrypoint", "Cmd"):
        value = run.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise InvalidManifest(f"malformed config of {what}: 'config.{key}' is not a list of strings")
        if any("\0" in item for item in value or ()):
            raise InvalidManifest(f"malformed config of {what}: 'config.{key}' holds a NUL character")
    labels = run.get("Labels")
    if labels is not None and not isinstance(labels, dict):
        raise InvalidManifest(f"malformed config of {what}: 'config.Labels' is not an object")


def parse_platform(document: dict[str, Any]) -> Platform:
    """Return the platform of a config or of an object ``platform``; parts that it does not tell are empty."""
    return Platform.of(
        *(printable(document.get(key) or "", _MAX_PLATFORM_PART) for key in ("os", "architecture", "variant"))
    )
