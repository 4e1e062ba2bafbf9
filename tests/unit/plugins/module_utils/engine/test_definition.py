# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions as an engine reads them, and those that it would refuse."""

from __future__ import annotations

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.definition import (
    Base,
    of_uri,
    parse,
    values_of,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidDefinition

HEADER = "Bootstrap: docker\nFrom: alpine\n"


def rendered(text: str, **arguments: str) -> str:
    """Return the text of a definition with its arguments put in, without the header."""
    return parse(HEADER + text, arguments, "the definition").text[len(HEADER) :]


BASES = [
    pytest.param("Bootstrap: docker\nFrom: godlovedc/lolcow", ["docker://godlovedc/lolcow"], id="of the seed"),
    pytest.param("BOOTSTRAP:docker\nfrom :  a:1  # why\n", ["docker://a:1"], id="spaces, case and comments"),
    pytest.param("# first\n\n" + HEADER, ["docker://alpine"], id="a comment above"),
    pytest.param(HEADER.replace("\n", "\r\n"), ["docker://alpine"], id="line ends of Windows"),
    pytest.param(HEADER + "Registry: quay.io\nNamespace: org\n", ["docker://quay.io/org/alpine"], id="registry"),
    pytest.param("Bootstrap: docker\nFrom: quay.io/\\\n  org/app\n", ["docker://quay.io/org/app"], id="continued"),
    pytest.param("Bootstrap: localimage\nFrom: /a b.sif\n", ["localimage:/a b.sif"], id="local"),
    pytest.param("Bootstrap: oci-archive\nFrom: /a.tar:1\n", ["oci-archive:/a.tar:1"], id="archive"),
    pytest.param("Bootstrap: scratch\n", ["scratch:"], id="no From needed"),
    pytest.param("Bootstrap: yum\nOSVersion: 9\nMirrorURL: http://a/\nOtherURL1: http://b/\n", ["yum:"], id="yum"),
    pytest.param(f"{HEADER}Stage: one\n{HEADER}%files from one\n/a /a\n", ["docker://alpine"], id="the same twice"),
    pytest.param(f"{HEADER}\nBootstrap: oras\nFrom: r.io/a:1\n", ["docker://alpine", "oras://r.io/a:1"], id="stages"),
]


@pytest.mark.parametrize(("text", "bases"), BASES)
def test_what_a_definition_starts_from(text: str, bases: list[str]) -> None:
    assert [base.uri for base in parse(text, {}, "x").bases] == bases


REFUSED = [
    ("", "is empty"),
    ("# nothing\n", "is empty"),
    ("From: alpine\n", "no Bootstrap before its From"),
    ("From: alpine\nBootstrap: docker\n", "no Bootstrap before its From"),
    ("%post\n  true\n", "no Bootstrap before its %post"),
    ("Bootstrap: docker\n", "no From"),
    ("Bootstrap: localimage\nFrom:\n", "no From"),
    (HEADER + "Form: x\n", "no header keyword 'form'"),
    (HEADER + "apt-get update\n", "is not KEYWORD: VALUE"),
    (HEADER + "%pots\n  true\n", "no section %pots"),
    (HEADER + "%post\n  cat <<X\n  %foo\nX\n", "must not begin with '%'"),
    (HEADER + "%apprun\n  true\n", "%apprun lacks the name"),
    (HEADER + "%files from one\n  /a\n", "the stage 'one'"),
    (HEADER + "%post\n  echo {{ WORD }}\n", "WORD, which has no value"),
    (f"{HEADER}%arguments\n A=1\n{HEADER}%post\n {{{{ A }}}}\n", "A, which has no value"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_an_engine_would_refuse_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse(text, {}, "the definition /x.def")
    assert words in str(caught.value)
    assert "the definition /x.def" in str(caught.value)


@pytest.mark.parametrize("section", ["%post\n true\n", "%arguments\n  NAME=1\n"])
def test_an_argument_without_use_is_refused(section: str) -> None:
    with pytest.raises(InvalidDefinition, match=r"does not use the build argument NAME; write it there as {{ NAME }}"):
        rendered(section, NAME="2")


ARGUMENTS = [
    pytest.param("%post\n echo {{ A }}\n", {"A": "1"}, "%post\n echo 1\n", id="given"),
    pytest.param("%post\n echo {{A}}{{  A  }}\n", {"A": "1"}, "%post\n echo 11\n", id="any spaces"),
    pytest.param("%arguments\n A=0\n%post\n {{ A }}\n", {}, "%arguments\n A=0\n%post\n 0\n", id="default"),
    pytest.param("%arguments\n A=0\n%post\n {{ A }}\n", {"A": "1"}, "%arguments\n A=0\n%post\n 1\n", id="given wins"),
    pytest.param(
        "%arguments\n # no\n B = b c \n A={{ B }}/x\n%post\n {{ A }}\n",
        {},
        "%arguments\n # no\n B = b c \n A=b c/x\n%post\n b c/x\n",
        id="in another one",
    ),
    pytest.param("%post\n # of {{ C }}\n {{ A }}\n", {"A": "1"}, "%post\n # of {{ C }}\n 1\n", id="not in comments"),
    pytest.param("%post\n #! {{ A }}\n", {"A": "1"}, "%post\n #! 1\n", id="but after #!"),
    pytest.param("%post\n ${{A}} {{ not one }} {A}\n", {"A": "1"}, "%post\n $1 {{ not one }} {A}\n", id="other braces"),
    pytest.param("%post\n {{ A }}\n", {"A": "\\1 \\g<0>"}, "%post\n \\1 \\g<0>\n", id="no pattern"),
]


@pytest.mark.parametrize(("text", "arguments", "expected"), ARGUMENTS)
def test_build_arguments_are_put_in_as_the_engines_do(text: str, arguments: dict[str, str], expected: str) -> None:
    assert rendered(text, **arguments) == expected


def test_an_argument_can_name_the_base() -> None:
    assert parse("Bootstrap: docker\nFrom: debian:{{ R }}\n", {"R": "12"}, "x").bases == (Base("docker", "debian:12"),)


def test_sections_that_stand_there_twice_are_one_and_apps_have_names() -> None:
    text = HEADER + "%post\n a\n%apprun one\n b\n%post -c /bin/bash\n c\n%AppRun two # x\n d\n"
    (stage,) = parse(text, {}, "x").stages
    assert {name: content.split() for name, content in stage.sections.items()} == {
        "post": ["a", "c"],
        "apprun one": ["b"],
        "apprun two": ["d"],
    }


def test_files_of_the_host_are_those_that_come_from_no_stage() -> None:
    text = f"""{HEADER}Stage: one
%files
    /a
    # /comment
    /b /c
    "/with space" /d
%appfiles tool
    /e
{HEADER}%files from one
    /f
%setup
    true
"""
    first, second = parse(text, {}, "x").stages
    assert first.files == ("/a", "/b", "/with space", "/e")
    assert second.files == ()
    assert (first.runs_on_host, second.runs_on_host) == (False, True)


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("oci:/a:1", Base("oci", "/a:1")),
        ("library://a/b:1", Base("library", "a/b:1")),
        ("localimage:/a b", Base("localimage", "/a b")),
    ],
)
def test_a_uri_stands_for_a_definition(uri: str, base: Base) -> None:
    assert of_uri(uri).bases == (base,)
    with pytest.raises(InvalidDefinition, match="names nothing"):
        of_uri(uri.partition(":")[0] + ":")


def test_values_of_build_arguments_are_texts() -> None:
    assert values_of({"A": "x", "B": 1.5, "C": 0}) == {"A": "x", "B": "1.5", "C": "0"}


@pytest.mark.parametrize(
    ("value", "words"), [(None, "has no value"), (["a"], "not a single"), ({"a": 1}, "not a single")]
)
def test_a_build_argument_without_one_value_is_refused_by_name(value: object, words: str) -> None:
    with pytest.raises(InvalidDefinition, match=f"the build argument VERSION .*{words}"):
        values_of({"VERSION": value})
