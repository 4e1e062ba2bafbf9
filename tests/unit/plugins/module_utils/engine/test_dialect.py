# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of what each engine understands, against what the source of each release says."""

from __future__ import annotations

import csv

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import dialect
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.dialect import Dialect, version_tuple
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import EngineError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.programs import FOREIGN
from ansible_collections.hpc.sregistry.tests.unit.engines import standin

every_version = pytest.mark.parametrize("name", standin.NAMES)


def describe(name: str) -> tuple[Dialect, standin.Description]:
    kind, _dash, version = name.rpartition("-")
    return Dialect(kind, version_tuple(version)), standin.Description.read(standin.VERSIONS / f"{name}.txt")


@every_version
def test_the_table_says_of_each_option_what_the_source_says(name: str) -> None:
    spoken, description = describe(name)
    said = {
        (command, option): spoken.knows(command, option) for command, row in dialect.OPTIONS.items() for option in row
    }
    true = {(command, option): option in description.options[command] for command, option in said}
    true[("build", "--arch")] &= spoken.kind == "apptainer"  # elsewhere it is for builds at a remote service
    assert said == true


@every_version
def test_every_variable_of_the_table_is_read(name: str) -> None:
    spoken, description = describe(name)
    assert {*map(spoken.variable, dialect.VARIABLES), spoken.keyring} <= description.variables


@every_version
def test_whatever_sets_an_engine_without_a_prefix_is_foreign(name: str) -> None:
    bare = {
        variable for variable in describe(name)[1].variables if not variable.startswith(("APPTAINER_", "SINGULARITY_"))
    }
    assert bare - {"DOCKER_HOST", "BUILDKIT_HOST"} <= set(FOREIGN)  # these two are where, not what


@every_version
def test_plain_http_has_an_option_in_every_version(name: str) -> None:
    spoken, description = describe(name)
    assert spoken.plain_http("build") in description.options["build"]


@pytest.mark.parametrize(
    ("kind", "version", "command", "option", "message"),
    [
        (
            "singularity-ce",
            "3.11.5",
            "build",
            "--build-arg-file",
            "SingularityCE 3.11.5 does not know --build-arg-file of build; use SingularityCE 4.0 or Apptainer 1.2",
        ),
        (
            "apptainer",
            "1.1.9",
            "verify",
            "--key",
            "Apptainer 1.1.9 does not know --key of verify; use SingularityCE 3.11 or Apptainer 1.2",
        ),
        (
            "singularity-ce",
            "4.5.1",
            "build",
            "--mksquashfs-args",
            "SingularityCE 4.5.1 does not know --mksquashfs-args of build; use Apptainer 1.4",
        ),
    ],
)
def test_a_refusal_names_the_versions_that_can(
    kind: str, version: str, command: str, option: str, message: str
) -> None:
    with pytest.raises(EngineError) as error:
        Dialect(kind, version_tuple(version)).option(command, option)
    assert str(error.value) == f"{message} or newer, or do without"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1.4.5", (1, 4, 5)), ("4.1.0-jammy", (4, 1, 0)), ("v3.8.7-1.el8", (3, 8, 7)), ("3.10.0", (3, 10, 0)), ("", ())],
)
def test_versions_compare_by_their_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version_tuple(text) == numbers
    assert version_tuple("3.9.9") < version_tuple("3.10.0")


@pytest.mark.parametrize(("kind", "oldest"), [("apptainer", "1.0.3"), ("singularity-ce", "3.8.4")])
def test_a_version_that_is_not_known_is_the_newest(kind: str, oldest: str) -> None:
    assert Dialect(kind, ()).option("exec", "--no-eval") == "--no-eval"
    assert Dialect(kind, ()).plain_http("build") == "--no-https"
    assert str(Dialect(kind, ())) == {"apptainer": "Apptainer", "singularity-ce": "SingularityCE"}[kind]
    assert not Dialect(kind, version_tuple(oldest)).knows("exec", "--no-eval")


def read_list(text: str) -> dict[str, str]:
    """Read a StringSlice of spf13/pflag: one line of CSV."""
    return dict(pair.split("=", 1) for pair in next(csv.reader([text], strict=True)))


def read_map(text: str) -> dict[str, str]:
    """Read a StringToString of spf13/pflag: CSV where there is more than one equals sign."""
    return read_list(text) if text.count("=") > 1 else dict([text.strip('"').split("=", 1)])


@pytest.mark.parametrize(
    "value", ["", "plain", "two words", "a,b", "a=b", "a=b,c=d", '"quoted"', 'ends with "', "a\nb", "ü", "'"]
)
@pytest.mark.parametrize("read", [read_list, read_map])
def test_a_variable_reaches_the_container_as_it_is(value: str, read: object) -> None:
    option, text = Dialect("apptainer", (1, 4, 5)).environment("NAME", value)
    assert option == "--env"
    assert callable(read) and read(text) == {"NAME": value}


@pytest.mark.parametrize(
    ("kind", "version", "value", "literal"),
    [
        ("apptainer", "1.4.5", "$HOME `id` \\", "\\$HOME \\`id\\` \\\\"),
        ("apptainer", "1.0.3", "$A", "\\$A"),
        ("singularity-ce", "3.8.4", "$A", "\\$A"),
        ("singularity", "3.7.4", 'say "x" \\', 'say "x" \\'),  # Go's %q escapes what can be escaped
        ("singularity", "3.5.3", "$A\n", "$A\n"),
        ("singularity-ce", "", "$A", "\\$A"),
    ],
)
def test_no_shell_reads_more_into_a_variable(kind: str, version: str, value: str, literal: str) -> None:
    assert Dialect(kind, version_tuple(version)).literal("NAME", value) == literal


def test_without_evaluation_a_variable_stands_for_itself() -> None:
    spoken = Dialect("apptainer", (1, 4, 5))
    assert spoken.literal("NAME", "$HOME", no_eval=True) == "$HOME"
    assert spoken.environment("NAME", "$HOME", no_eval=True) == ["--env", "NAME=$HOME"]


@pytest.mark.parametrize("value", ["$HOME", "`id`", "a\nb"])
def test_what_a_version_changes_is_refused(value: str) -> None:
    with pytest.raises(EngineError, match=r"^Singularity 3\.7\.4 cannot pass on the variable NAME as it is: "):
        Dialect("singularity", (3, 7, 4)).literal("NAME", value)


def test_variables_need_an_engine_that_takes_them() -> None:
    with pytest.raises(EngineError, match=r"^Singularity 3\.5\.3 does not know --env of exec; use SingularityCE 3\.6"):
        Dialect("singularity", (3, 5, 3)).environment("NAME", "value")


@pytest.mark.parametrize(
    ("arguments", "variables", "refusal"),
    [
        (["build", "--sandbox", "target", "source"], ["APPTAINER_TMPDIR"], None),
        (["exec", "--env", "A=b", "image", "ls", "--unknown"], ["APPTAINERENV_A"], None),
        (["build", "--nohttps", "target", "source"], [], 'Error for command "build": unknown flag: --nohttps'),
        (["build", "--section"], [], 'Error for command "build": flag needs an argument: --section'),
        (["build", "target"], [], 'Error for command "build": accepts 2 arg(s), received 1'),
        (["key", "forge"], [], 'Error: unknown command "key forge"'),
        (["sign", "image"], ["SINGULARITY_SYPGPDIR"], "nothing reads ['SINGULARITY_SYPGPDIR']"),
        (["sign", "image"], ["APPTAINER_SYPGPDIR"], "nothing reads ['APPTAINER_SYPGPDIR']"),
    ],
)
def test_a_stand_in_refuses_what_its_version_refuses(
    arguments: list[str], variables: list[str], refusal: str | None
) -> None:
    assert describe("apptainer-1.4.5")[1].refusal(arguments, variables) == refusal
