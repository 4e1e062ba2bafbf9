# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which engine a host has, and how it is run. The engines are shell scripts that answer as the real ones do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils import engine
from ansible_collections.hpc.sregistry.plugins.module_utils.engine import Engine
from ansible_collections.hpc.sregistry.plugins.module_utils.errors import EngineError

Install = Callable[[str, str], str]


def answering(version: str) -> str:
    """A script that answers ``--version``, and fails at everything else."""
    return f'[ "$*" = --version ] && echo "{version}"'


# Finding


@pytest.mark.parametrize(
    ("name", "says", "kind", "version", "home"),
    [
        ("apptainer", "apptainer version 1.4.5", "apptainer", "1.4.5", ".apptainer"),
        ("apptainer", "apptainer version 1.4.5-2+b1", "apptainer", "1.4.5-2+b1", ".apptainer"),
        ("singularity", "apptainer version 1.1.9", "apptainer", "1.1.9", ".apptainer"),
        (
            "singularity",
            "singularity-ce version 4.1.0-jammy",
            "singularity-ce",
            "4.1.0-jammy",
            ".singularity",
        ),
        ("singularity", "singularity version 3.8.7", "singularity", "3.8.7", ".singularity"),
        ("singularity", "singularity version v3.8.7-1.el8", "singularity", "3.8.7-1.el8", ".singularity"),
        (
            "singularity",
            "WARNING: no config\nsingularity-ce version 3.11.4",
            "singularity-ce",
            "3.11.4",
            ".singularity",
        ),
    ],
)
def test_an_engine_is_told_by_what_it_says(
    install: Install, name: str, says: str, kind: str, version: str, home: str
) -> None:
    path = install(name, answering(says))
    found = engine.find()
    assert found == Engine(path, kind, version)
    assert found.home == home
    assert engine.kind_of() == kind


def test_apptainer_is_preferred(install: Install) -> None:
    install("singularity", answering("singularity-ce version 4.1.0"))
    path = install("apptainer", answering("apptainer version 1.4.5"))
    assert engine.find() == Engine(path, "apptainer", "1.4.5")


@pytest.mark.parametrize("as_path", [False, True])
def test_a_given_engine_is_taken_before_any_other(install: Install, as_path: bool) -> None:
    install("apptainer", answering("apptainer version 1.4.5"))
    path = install("singularity", answering("singularity-ce version 4.1.0-jammy"))
    given = path if as_path else "singularity"
    assert engine.find(given) == Engine(path, "singularity-ce", "4.1.0-jammy")
    assert engine.kind_of(given) == "singularity-ce"


def test_an_engine_outside_the_path_is_found_in_the_usual_directories(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = install("singularity", answering("singularity version 3.8.7"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(engine, "_DIRECTORIES", (os.path.dirname(path),))
    assert engine.find() == Engine(path, "singularity", "3.8.7")


def test_the_kind_of_apptainer_is_known_without_running_it(install: Install, programs: Path, tmp_path: Path) -> None:
    install("apptainer", f": > {tmp_path}/ran\nexit 1")
    assert engine.kind_of() == "apptainer"
    (programs / "singularity").symlink_to("apptainer")  # as distributions install it
    assert engine.kind_of("singularity") == "apptainer"
    assert not (tmp_path / "ran").exists()


def test_a_missing_engine_is_answered_with_what_to_install(programs: Path) -> None:
    assert engine.kind_of() is None
    with pytest.raises(EngineError) as error:
        engine.find()
    assert str(error.value) == (
        "there is neither apptainer nor singularity on this host; install the package apptainer or singularity-ce, "
        "or give the executable's path with engine"
    )


@pytest.mark.parametrize("given", ["/nonexistent/apptainer", "apptainer-1.4"])
def test_a_given_engine_that_is_missing_is_named(install: Install, given: str) -> None:
    install("apptainer", answering("apptainer version 1.4.5"))
    assert engine.kind_of(given) is None
    with pytest.raises(EngineError) as error:
        engine.find(given)
    assert str(error.value) == f"the engine {given} is not an executable file on this host"


def test_a_file_that_is_not_executable_is_no_engine(install: Install) -> None:
    path = install("apptainer", answering("apptainer version 1.4.5"))
    os.chmod(path, 0o644)
    with pytest.raises(EngineError, match=f"^the engine {path} is not an executable file on this host$"):
        engine.find(path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo 'podman version 4.3.1'", "0 and 'podman version 4.3.1'"),
        ("echo 'apptainer version 1.4.5'; exit 7", "7 and 'apptainer version 1.4.5'"),
        ("echo 'libseccomp.so.2: cannot open' >&2; exit 127", "127 and 'libseccomp.so.2: cannot open'"),
        ("exit 0", "0 and ''"),
    ],
)
def test_a_program_that_is_no_engine_or_is_broken_is_named(install: Install, body: str, said: str) -> None:
    path = install("singularity", body)
    for look in (engine.find, engine.kind_of):
        with pytest.raises(EngineError) as error:
            look()
        assert str(error.value) == (
            f"{path} is neither Apptainer nor Singularity: --version ends with {said}; "
            "mend it, or give another executable's path with engine"
        )


def test_an_engine_of_another_machine_is_named(install: Install) -> None:
    path = install("apptainer", "")
    Path(path).write_bytes(b"\x7fELF of another machine")
    with pytest.raises(EngineError, match=f"^cannot run {path}: .*Exec format error"):
        engine.find()


# Running


def recording(directory: Path, then: str = "") -> str:
    """A script that writes down how it was called."""
    return f"""
printf '%s\\n' "$@" > {directory}/arguments
export -p > {directory}/environment
umask > {directory}/umask
cat=; read -r cat; echo "$cat" > {directory}/input
{then}"""


def test_a_sandbox_is_built_without_the_engines_cache(install: Install, tmp_path: Path) -> None:
    engine.Engine(install("apptainer", recording(tmp_path)), "apptainer", "1.4.5").build_sandbox(
        "oci:/a layout", "/a target", "/scratch"
    )
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments == ["build", "--disable-cache", "--sandbox", "/a target", "oci:/a layout"]


def test_an_image_is_inspected(install: Install, tmp_path: Path) -> None:
    answer = '{"data": {"attributes": {"labels": {"a": "ü"}}}, "type": "container"}'
    path = install("apptainer", recording(tmp_path, f"echo '{answer}'"))
    assert Engine(path, "apptainer", "1.4.5").inspect("/an image.sif") == {"labels": {"a": "ü"}}
    assert (tmp_path / "arguments").read_text().splitlines() == ["inspect", "--all", "--json", "/an image.sif"]


def test_the_callers_settings_do_not_reach_the_engine(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "APPTAINER_BIND",
        "APPTAINERENV_A",
        "APPTAINER_DOCKER_PASSWORD",
        "SINGULARITY_CACHEDIR",
        "SINGULARITYENV_A",
        "SINGULARITY_TMPDIR",
        "SREGISTRY_DOCKERHUB_PASSWORD",
        "SOURCE_DATE_EPOCH",
        "TMPDIR",
        "TZ",
        "LC_ALL",
    ):
        monkeypatch.setenv(name, "of the caller")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    path = install("apptainer", recording(tmp_path))
    before = os.umask(0o077)
    try:
        Engine(path, "apptainer", "1.4.5").build_sandbox("oci:/layout", "/target", "/scratch")
    finally:
        os.umask(before)
    environment = (tmp_path / "environment").read_text()
    assert "of the caller" not in environment
    for name, value in (
        ("TMPDIR", "/scratch"),
        ("APPTAINER_TMPDIR", "/scratch"),
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
        ("HTTPS_PROXY", "kept"),
    ):
        assert f"{name}='{value}'" in environment or f'{name}="{value}"' in environment  # dash and bash differ
    assert (tmp_path / "umask").read_text().strip() in ("0022", "022")
    assert (tmp_path / "input").read_text() == "\n"


def test_the_engines_own_words_are_in_the_error(install: Install) -> None:
    path = install(
        "apptainer", "echo 'INFO:    Starting build...' >&2\necho 'FATAL:   While performing build: no' >&2\nexit 255"
    )
    with pytest.raises(EngineError) as error:
        Engine(path, "apptainer", "1.4.5").build_sandbox("oci:/layout", "/target", "/scratch")
    assert str(error.value) == (
        f"{path} build --disable-cache --sandbox /target oci:/layout failed with status 255: "
        "FATAL:   While performing build: no"
    )


@pytest.mark.parametrize("answer", ["", "no JSON", "[]", "{}", '{"data": null}', '{"data": {"attributes": null}}'])
def test_an_answer_that_is_not_the_engines_json_is_named(install: Install, answer: str) -> None:
    path = install("apptainer", f"echo '{answer}'")
    with pytest.raises(EngineError) as error:
        Engine(path, "apptainer", "1.4.5").inspect("/a.sif")
    assert str(error.value) == f"{path} inspect answered what is not its JSON: {answer + chr(10)!r}"


def test_an_engine_that_does_not_end_is_stopped(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_TIMEOUT", 0.2)
    path = install("apptainer", "while :; do :; done")
    with pytest.raises(EngineError) as error:
        Engine(path, "apptainer", "1.4.5").inspect("/a.sif")
    assert str(error.value) == f"{path} inspect --all --json /a.sif did not end within 0.2 s"


def test_an_engine_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as error:
        Engine(str(tmp_path / "none"), "apptainer", "1.4.5").inspect("/a.sif")
    assert str(error.value) == f"cannot run {tmp_path}/none: No such file or directory"
