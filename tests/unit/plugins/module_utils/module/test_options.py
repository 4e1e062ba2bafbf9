# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options over variables of the host over defaults, as Ansible's own validation of argument specs does it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.module.options import (
    build_options,
    name_options,
    platform_options,
    registry_options,
    store_options,
)

ROOT = Path(__file__).resolve().parents[5]
TRUE = ["yes", "Yes", "YES", "true", "True", "t", "T", "y", "on", "1"]
FALSE = ["no", "No", "false", "FALSE", "f", "n", "off", "0"]
NO_BOOLEAN = ["maybe", "2", "yess", "enabled", "never", "-1"]

# option: the variables in their order, a value for each, what the value comes to, another value that the task gives
TABLE: dict[str, tuple[list[str], str, Any, Any]] = {
    "storage": (["SREGISTRY_STORAGE"], "/srv/store", "/srv/store", "/other"),
    "database": (["SREGISTRY_DATABASE"], "/srv/db", "/srv/db", "/other"),
    "registry": (["SREGISTRY_DOCKERHUB_BASE"], "registry.example.org", "registry.example.org", "quay.io"),
    "client": (["SREGISTRY_CLIENT"], "docker", "docker", "dockerhub"),
    "api_version": (["SREGISTRY_DOCKERHUB_VERSION"], "v2", "v2", "v2"),
    "os": (["SREGISTRY_DOCKER_OS"], "linux", "linux", "windows"),
    "architecture": (["SREGISTRY_DOCKER_ARCHITECTURE"], "arm64", "arm64", "amd64"),
    "use_cmd": (["SREGISTRY_DOCKER_CMD"], "yes", True, False),
    "username": (
        ["SREGISTRY_DOCKERHUB_USERNAME", "APPTAINER_DOCKER_USERNAME", "SINGULARITY_DOCKER_USERNAME"],
        "ada",
        "ada",
        "eve",
    ),
    "password": (
        ["SREGISTRY_DOCKERHUB_PASSWORD", "APPTAINER_DOCKER_PASSWORD", "SINGULARITY_DOCKER_PASSWORD"],
        "$ecret #.",
        "$ecret #.",
        "other",
    ),
    "authfile": (["SREGISTRY_DOCKERHUB_SECRETS"], "/root/config.json", "/root/config.json", "/other"),
    "no_https": (["SREGISTRY_DOCKERHUB_NOHTTPS", "APPTAINER_NOHTTPS", "SINGULARITY_NOHTTPS"], "t", True, False),
    "threads": (["SREGISTRY_PYTHON_THREADS"], "3", 3, 5),
    "cachedir": (["APPTAINER_CACHEDIR", "SINGULARITY_CACHEDIR"], "/srv/cache", "/srv/cache", "/other"),
    "disable_cache": (["APPTAINER_DISABLE_CACHE", "SINGULARITY_DISABLE_CACHE"], "1", True, False),
    "tmpdir": (["APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "TMPDIR"], "/srv/tmp", "/srv/tmp", "/other"),
}
BOOLEANS = ["use_cmd", "no_https", "disable_cache"]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables, _text, _value, _given in TABLE.values():
        for variable in variables:
            monkeypatch.delenv(variable, raising=False)


def validated(**given: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of a task as a module with these options sees them, and the errors."""
    spec = {
        **name_options(),
        **platform_options(),
        **registry_options(),
        **store_options(),
        **build_options(),
    }
    result = ArgumentSpecValidator(spec).validate({"name": ["ubuntu"], **given})
    return result.validated_parameters, list(result.error_messages)


@pytest.mark.parametrize("option", TABLE)
def test_a_variable_is_taken_where_the_task_says_nothing(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, text, value, _given = TABLE[option]
    for variable in variables:
        with monkeypatch.context() as context:
            context.setenv(variable, text)
            parameters, errors = validated()
        assert (variable, parameters[option], errors) == (variable, value, [])


@pytest.mark.parametrize("option", TABLE)
def test_what_the_task_says_wins_over_every_variable(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, text, _value, given = TABLE[option]
    for variable in variables:
        monkeypatch.setenv(variable, text)
    parameters, errors = validated(**{option: given})
    assert (parameters[option], errors) == (given, [])


@pytest.mark.parametrize("option", [option for option, row in TABLE.items() if len(row[0]) > 1])
def test_the_first_of_several_variables_wins(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, text, value, _given = TABLE[option]
    for later in range(1, len(variables)):
        with monkeypatch.context() as context:
            context.setenv(variables[later - 1], text)
            context.setenv(variables[later], "0" if option in BOOLEANS else "/later")
            parameters, errors = validated()
        assert (parameters[option], errors) == (value, [])


@pytest.mark.parametrize("option", BOOLEANS)
def test_booleans_are_what_ansible_reads_as_booleans(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = TABLE[option][0][0]
    for text, value in [(text, True) for text in TRUE] + [(text, False) for text in FALSE]:
        monkeypatch.setenv(variable, text)
        parameters, errors = validated()
        assert (text, parameters[option], errors) == (text, value, [])


@pytest.mark.parametrize("option", BOOLEANS)
@pytest.mark.parametrize("text", NO_BOOLEAN)
def test_anything_else_is_an_error_that_names_the_option(
    option: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TABLE[option][0][0], text)
    _parameters, errors = validated()
    assert len(errors) == 1
    assert option in errors[0]
    assert text in errors[0]


@pytest.mark.parametrize(
    ("variable", "text", "option"),
    [
        ("SREGISTRY_CLIENT", "google-storage", "client"),
        ("SREGISTRY_DOCKERHUB_VERSION", "v1", "api_version"),
        ("SREGISTRY_PYTHON_THREADS", "many", "threads"),
    ],
)
def test_a_variable_that_cannot_be_honoured_is_an_error(
    variable: str, text: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    _parameters, errors = validated()
    assert len(errors) == 1
    assert option in errors[0]
    assert text in errors[0]


def test_the_table_of_the_reference_is_true() -> None:
    documented = {}
    for line in (ROOT / "docs/reference.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        variables = re.findall(r"`([A-Z]+(?:_[A-Z]+)+|TMPDIR)`", cells[1]) if len(cells) == 3 else []
        if variables:
            documented[re.sub(r"[` ].*", "", cells[0].lstrip("`"))] = variables
    assert documented == {option: variables for option, (variables, *_rest) in TABLE.items()}


def test_a_password_never_shows() -> None:
    assert registry_options()["password"]["no_log"] is True
