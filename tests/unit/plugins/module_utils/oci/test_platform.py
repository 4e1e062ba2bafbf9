# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The normal form of a platform, and which image serves which platform."""

from __future__ import annotations

import os

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidPlatform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.strategies import platforms
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        (" linux/amd64\n", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i686", "linux/386"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm"),
        ("linux/arm/v7", "linux/arm"),
        ("linux/arm/7", "linux/arm"),
        ("linux/armhf", "linux/arm"),
        ("linux/armv7l", "linux/arm"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/armv6l", "linux/arm/v6"),
        ("linux/arm/V5", "linux/arm/v5"),
        ("linux/ppc64el", "linux/ppc64le"),
        ("linux/loongarch64", "linux/loong64"),
        ("linux/s390x", "linux/s390x"),
        ("macos/aarch64", "darwin/arm64"),
    ],
)
def test_other_spellings_become_the_normal_form(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal


@given(platforms)
def test_the_normal_form_is_its_own_normal_form(platform: Platform) -> None:
    assert Platform.of(platform.os, platform.architecture, platform.variant) == platform
    assert Platform.parse(str(platform)) == platform


@given(st.text(min_size=1), st.text(min_size=1), st.text())
def test_normalising_twice_changes_nothing_more(system: str, architecture: str, variant: str) -> None:
    once = Platform.of(system, architecture, variant)
    assert Platform.of(once.os, once.architecture, once.variant) == once


@pytest.mark.parametrize(
    "text",
    ["", "linux", "linux/", "/amd64", "linux/amd64/", "linux/arm/v7/x", "linux amd64", "linux/amd 64", "linux/ä"],
)
def test_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidPlatform) as refusal:
        Platform.parse(text)
    assert str(refusal.value) == (
        f"invalid platform {text!r}: write it as os/architecture or os/architecture/variant, such as linux/arm64"
    )


@pytest.mark.parametrize(
    ("machine", "normal"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("armv7l", "linux/arm"), ("ppc64le", "linux/ppc64le")],
)
def test_the_host_is_what_uname_says(machine: str, normal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "node", "6.1.0", "#1", machine)))
    assert str(Platform.host()) == normal


@pytest.mark.parametrize(
    ("wanted", "offered", "rank"),
    [
        ("linux/amd64", "linux/amd64", 0),
        ("linux/amd64", "linux/amd64/v1", 0),
        ("linux/amd64", "linux/amd64/v2", None),
        ("linux/amd64/v3", "linux/amd64/v3", 0),
        ("linux/amd64/v3", "linux/amd64/v2", 1),
        ("linux/amd64/v3", "linux/amd64", 2),
        ("linux/amd64/v2", "linux/amd64/v3", None),
        ("linux/arm64", "linux/arm64/v8", 0),
        ("linux/arm64", "linux/arm64/v9", None),
        ("linux/arm64/v9", "linux/arm64", 1),
        ("linux/arm", "linux/arm/v7", 0),
        ("linux/arm", "linux/arm/v6", 1),
        ("linux/arm", "linux/arm/v5", 2),
        ("linux/arm/v6", "linux/arm", None),
        ("linux/ppc64le", "linux/ppc64le", 0),
        ("linux/mips/softfloat", "linux/mips/softfloat", 0),
        ("linux/mips/softfloat", "linux/mips", None),
        ("linux/mips", "linux/mips/softfloat", None),
        ("linux/amd64", "linux/arm64", None),
        ("linux/amd64", "windows/amd64", None),
        ("linux/386", "linux/amd64", None),
    ],
)
def test_an_older_variant_serves_and_a_newer_does_not(wanted: str, offered: str, rank: int | None) -> None:
    assert Platform.parse(wanted).rank(Platform.parse(offered)) == rank


@given(platforms)
def test_every_platform_serves_itself_best(platform: Platform) -> None:
    assert platform.rank(platform) == 0
