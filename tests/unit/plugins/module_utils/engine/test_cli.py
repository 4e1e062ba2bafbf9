# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Engines of a host and their use, by scripts that answer as the real engines do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import cli, executable
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.cli import (
    BuildOptions,
    Engine,
    EngineResult,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.run import RunOptions, exec_command
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import EngineError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Login
from ansible_collections.hpc.sregistry.tests.unit.engines import standin
from ansible_collections.hpc.sregistry.tests.unit.engines.standin import StandIn

Install = Callable[[str, str], str]


def answering(version: str) -> str:
    """Return a script that answers ``--version``, and fails at everything else."""
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
    found = cli.find_engine()
    assert found == Engine(path, kind, version)
    assert found.home == home
    assert executable.engine_kind() == kind


def test_apptainer_is_preferred(install: Install) -> None:
    install("singularity", answering("singularity-ce version 4.1.0"))
    path = install("apptainer", answering("apptainer version 1.4.5"))
    assert cli.find_engine() == Engine(path, "apptainer", "1.4.5")


@pytest.mark.parametrize("as_path", [False, True])
def test_a_given_engine_is_taken_before_any_other(install: Install, as_path: bool) -> None:
    install("apptainer", answering("apptainer version 1.4.5"))
    path = install("singularity", answering("singularity-ce version 4.1.0-jammy"))
    given = path if as_path else "singularity"
    assert cli.find_engine(given) == Engine(path, "singularity-ce", "4.1.0-jammy")
    assert executable.engine_kind(given) == "singularity-ce"


def test_an_engine_outside_the_path_is_found_in_the_usual_directories(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = install("singularity", answering("singularity version 3.8.7"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(executable, "DIRECTORIES", (os.path.dirname(path),))
    assert cli.find_engine() == Engine(path, "singularity", "3.8.7")


def test_the_kind_of_apptainer_is_known_without_running_it(install: Install, programs: Path, tmp_path: Path) -> None:
    install("apptainer", f": > {tmp_path}/ran\nexit 1")
    assert executable.engine_kind() == "apptainer"
    (programs / "singularity").symlink_to("apptainer")  # as distributions install it
    assert executable.engine_kind("singularity") == "apptainer"
    assert not (tmp_path / "ran").exists()


def test_a_missing_engine_is_answered_with_what_to_install(programs: Path) -> None:
    assert executable.engine_kind() is None
    with pytest.raises(EngineError) as error:
        cli.find_engine()
    assert str(error.value) == (
        "there is neither apptainer nor singularity on this host; install the package apptainer or singularity-ce, "
        "or give the executable's path with engine"
    )


@pytest.mark.parametrize("given", ["/nonexistent/apptainer", "apptainer-1.4"])
def test_a_given_engine_that_is_missing_is_named(install: Install, given: str) -> None:
    install("apptainer", answering("apptainer version 1.4.5"))
    assert executable.engine_kind(given) is None
    with pytest.raises(EngineError) as error:
        cli.find_engine(given)
    assert str(error.value) == f"the engine {given} is not an executable file on this host"


def test_a_file_that_is_not_executable_is_no_engine(install: Install) -> None:
    path = install("apptainer", answering("apptainer version 1.4.5"))
    os.chmod(path, 0o644)
    with pytest.raises(EngineError, match=f"^the engine {path} is not an executable file on this host$"):
        cli.find_engine(path)


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
    for look in (cli.find_engine, executable.engine_kind):
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
        cli.find_engine()


# Running


def recording(directory: Path, then: str = "") -> str:
    """Return a script that writes down how it was called."""
    return f"""
printf '%s\\n' "$@" > {directory}/arguments
export -p > {directory}/environment
umask > {directory}/umask
cat=; read -r cat; echo "$cat" > {directory}/input
{then}"""


def test_a_sandbox_is_built_without_the_engines_cache(install: Install, tmp_path: Path) -> None:
    cli.Engine(install("apptainer", recording(tmp_path)), "apptainer", "1.4.5").build_sandbox(
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
        f"{path} build --disable-cache --sandbox /target oci:/layout failed with status 255. It said: "
        "FATAL:   While performing build: no"
    )


@pytest.mark.parametrize("answer", ["", "no JSON", "[]", "{}", '{"data": null}', '{"data": {"attributes": null}}'])
def test_an_answer_that_is_not_the_engines_json_is_named(install: Install, answer: str) -> None:
    path = install("apptainer", f"echo '{answer}'")
    with pytest.raises(EngineError) as error:
        Engine(path, "apptainer", "1.4.5").inspect("/a.sif")
    assert str(error.value) == f"{path} inspect answered what is not its JSON: {answer + chr(10)!r}"


def test_an_engine_that_does_not_end_is_stopped(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_TIMEOUT", 0.2)
    path = install("apptainer", "while :; do :; done")
    with pytest.raises(EngineError) as error:
        Engine(path, "apptainer", "1.4.5").inspect("/a.sif")
    assert str(error.value) == f"{path} inspect --all --json /a.sif did not end within 0.2 s"


def test_an_engine_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as error:
        Engine(str(tmp_path / "none"), "apptainer", "1.4.5").inspect("/a.sif")
    assert str(error.value) == f"cannot run {tmp_path}/none: No such file or directory"


# Every version, by stand-ins that accept what its source accepts


@pytest.fixture(params=standin.LANDMARKS)
def version(request: pytest.FixtureRequest, tmp_path: Path) -> StandIn:
    """Return a stand-in for each landmark among the versions, in turn."""
    return standin.install(request.param, tmp_path / "engine")


def engine_of(version: StandIn) -> Engine:
    return Engine(str(version.path), version.kind, version.version)


def test_every_version_is_identified(version: StandIn) -> None:
    assert cli.find_engine(str(version.path)) == engine_of(version)


EVERYWHERE = BuildOptions(
    sandbox=True,
    fakeroot=True,
    force=True,
    fix_permissions=True,
    no_test=True,
    sections=("setup", "post"),
    login=Login("alice", "s3cret"),
    no_https=True,
    ca_path="/ca.pem",
    cachedir="/cache",
    tmpdir="/scratch",
)


def test_what_a_script_of_a_definition_writes_does_not_reach_the_terminal_as_it_is() -> None:
    result = EngineResult(1, "", "WARNING: \x1b]0;title\x07\x1b[2Ja\u202eb\x1b[31m\tred\nFATAL:   \x9b2J\n")
    assert result.warnings == ("\\x1b]0;title\\x07\\x1b[2Ja\\u202eb red",)
    assert result.message.isascii()
    assert result.message.replace("\n", "").isprintable()


def test_every_version_builds(version: StandIn) -> None:
    version.answers("build", errors="INFO:    Starting\nWARNING: something\nINFO:    Build complete\n")
    assert engine_of(version).build("/target", "docker://image", EVERYWHERE) == ("something",)
    (call,) = version.calls
    prefix = "APPTAINER_" if version.kind == "apptainer" else "SINGULARITY_"
    assert call["variables"] == {
        f"{prefix}CACHEDIR": "/cache",
        f"{prefix}DOCKER_USERNAME": "alice",
        f"{prefix}DOCKER_PASSWORD": "s3cret",
        f"{prefix}TMPDIR": "/scratch",
        "TMPDIR": "/scratch",
        "SSL_CERT_FILE": "/ca.pem",
    }
    plain_http = (
        "--nohttps" if version.kind != "apptainer" and engine_of(version).version_tuple < (3, 9) else "--no-https"
    )
    assert call["arguments"] == [
        "build",
        *("--sandbox", "--fakeroot", "--force", "--fix-perms", "--notest", plain_http),
        *("--section", "setup", "--section", "post", "/target", "docker://image"),
    ]


def test_nothing_is_cached_unless_there_is_a_directory_for_it(version: StandIn) -> None:
    engine_of(version).build_sandbox("oci:/layout", "/target", "/scratch")
    assert version.calls[0]["arguments"] == ["build", "--disable-cache", "--sandbox", "/target", "oci:/layout"]


@pytest.mark.parametrize(
    ("options", "first_singularity", "first_apptainer", "option"),
    [
        (BuildOptions(arguments={"version": "1.0"}), (4, 0), (1, 2), "--build-arg-file"),
        (BuildOptions(packer_arguments="-comp zstd"), None, (1, 4), "--mksquashfs-args"),
        (BuildOptions(architecture="arm64"), None, (1, 4), "--arch"),
    ],
)
def test_what_a_version_cannot_do_is_refused_before_it_is_run(
    version: StandIn,
    options: BuildOptions,
    first_singularity: tuple[int, ...] | None,
    first_apptainer: tuple[int, ...],
    option: str,
) -> None:
    first = first_apptainer if version.kind == "apptainer" else first_singularity
    if first and engine_of(version).version_tuple >= first:
        engine_of(version).build("/target", "/definition", options)
        assert option in str(version.calls[0]["arguments"])
    else:
        with pytest.raises(EngineError, match=f" does not know {option} of build; use "):
            engine_of(version).build("/target", "/definition", options)
        assert version.calls == []


def test_every_version_inspects(version: StandIn) -> None:
    version.answers("inspect", '{"data": {"attributes": {"labels": {}}}}')
    assert engine_of(version).inspect("/image") == {"labels": {}}
    assert ("--all" in str(version.calls[0]["arguments"])) == (version.version != "3.5.3")


@pytest.mark.parametrize("action", ["exec", "run", "shell"])
def test_every_version_runs_a_command(version: StandIn, action: str) -> None:
    options = RunOptions(
        binds=("/a:/b:ro", "/c"),
        overlays=("/overlay",),
        scratch=("/tmp",),
        home="/home/a:/home/b",
        pwd="/work",
        workdir="/scratch",
        hostname="box",
        cleanenv=True,
        contain=True,
        containall=True,
        fakeroot=True,
        no_home=True,
        no_init=True,
        nv=True,
        rocm=True,
        userns=True,
        writable=True,
        writable_tmpfs=True,
    )
    spoken = engine_of(version)
    command = exec_command(spoken, "/image", ["--flag", "of the command"], options, action)
    inside = spoken.inside({"SECRET": "value"})
    assert version.description.refusal(command[1:], inside) is None
    assert command[-3:] == ["/image", "--flag", "of the command"]
    assert command[-7:-3] == ["--bind", "/a:/b:ro", "--bind", "/c"]


@pytest.mark.parametrize(
    ("options", "option"),
    [
        (RunOptions(no_eval=True), "--no-eval"),
        (RunOptions(compat=True), "--compat"),
        (RunOptions(no_mount=("home",)), "--no-mount"),
        (RunOptions(no_umask=True), "--no-umask"),
        (RunOptions(unsquash=True), "--unsquash"),
        (RunOptions(nvccli=True), "--nvccli"),
        (RunOptions(env={"A": "b"}), "--env"),
    ],
)
def test_an_option_is_given_where_it_is_known_and_refused_elsewhere(
    version: StandIn, options: RunOptions, option: str
) -> None:
    spoken = engine_of(version)
    if option in version.description.options["exec"]:
        command = exec_command(spoken, "/image", ["true"], options)
        assert option in command
        assert version.description.refusal(command[1:]) is None
    else:
        with pytest.raises(EngineError, match=f" does not know {option} of exec; use "):
            exec_command(spoken, "/image", ["true"], options)


# Building with secrets


@pytest.fixture
def newest(tmp_path: Path) -> StandIn:
    return standin.install("apptainer-1.4.5", tmp_path / "engine")


def test_build_arguments_are_in_a_file_that_only_this_user_can_read(newest: StandIn, tmp_path: Path) -> None:
    options = BuildOptions(arguments={"token": "s3cret value", "n": "a=b"}, tmpdir=str(tmp_path))
    engine_of(newest).build("/target", "/definition", options)
    (call,) = newest.calls
    assert "s3cret" not in str(call["arguments"]) + str(call["variables"])
    assert call["files"] == {"--build-arg-file": ["0o600", "token=s3cret value\nn=a=b\n"]}
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


@pytest.mark.parametrize("value", ["", " ", " a", "a\n", "a\nb", "a\rb", "a\x85b", "x" * 70_000])
def test_a_value_that_the_engine_would_change_is_refused(newest: StandIn, value: str) -> None:
    with pytest.raises(EngineError) as error:
        engine_of(newest).build("/target", "/definition", BuildOptions(arguments={"name": value}))
    assert str(error.value).startswith("the value of the build argument name cannot be passed on: it must be one line")
    assert newest.calls == []


@pytest.mark.parametrize("name", ["", "a b", "a-b", "a=b", "a\n", "ü"])
def test_a_name_that_no_definition_can_use_is_refused(newest: StandIn, name: str) -> None:
    with pytest.raises(EngineError, match="is not a name of a build argument"):
        engine_of(newest).build("/target", "/definition", BuildOptions(arguments={name: "value"}))


def test_no_secret_is_in_an_error_or_warning(newest: StandIn) -> None:
    said = "WARNING: alice:s3cret ab tab\nFATAL:   no s3cret+token for alice, ab\n"
    options = BuildOptions(arguments={"a": "s3cret+token", "b": "ab"}, login=Login("alice", "s3cret"))
    newest.answers("build", errors=said)
    assert engine_of(newest).build("/target", "/definition", options) == ("********:******** ******** tab",)
    newest.answers("build", errors=said, status=255)
    with pytest.raises(EngineError) as error:
        engine_of(newest).build("/target", "/definition", options)
    assert str(error.value).endswith("FATAL:   no ******** for ********, ********")
    assert "s3cret" not in repr(options) + repr(error.value)
    assert "alice" not in repr(options) + repr(error.value)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "could not use fakeroot: no mapping entry found in /etc/subuid for hpc",
            "give this user a range in /etc/subuid",
        ),
        (
            "You must be the root user, however you can use --remote or --fakeroot to build",
            "build as root, or with fakeroot",
        ),
        ("Building from a definition file requires root or some kind of fake root", "build as root, or with fakeroot"),
        ("Failed to create user namespace: not allowed to create user namespace", "allow user namespaces"),
        ("http: server gave HTTP response to HTTPS client", "set no_https"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "with ca_path"),
        ("reading manifest: unauthorized: authentication required", "give a login"),
        ("write /tmp/x: no space left on device", "another tmpdir"),
        (
            "unpackSIF failed\nset_attributes: failed to change uid and gids on /etc, because Operation not permitted",
            "unpack as an ordinary user, or build the sandbox from docker://",
        ),
    ],
)
def test_an_error_says_the_way_out_where_it_is_known(newest: StandIn, said: str, advice: str) -> None:
    newest.answers("build", errors=f"INFO:    Starting\n\x1b[31mFATAL:   \x1b[0m{said}\n", status=255)
    with pytest.raises(EngineError) as error:
        engine_of(newest).build("/target", "/definition")
    begin, end = str(error.value).split(". It said: ")
    assert " failed with status 255; " in begin
    assert advice in begin, "before the engine's own words, which may be long"
    assert end == f"FATAL:   {said}"


def test_progress_is_not_told() -> None:
    why = "set_attributes: failed to change uid and gids on /image/[===]/1, because Operation not permitted"
    result = EngineResult(
        255,
        "",
        "ERROR:   unpackSIF failed: Parallel it is\n"
        "Parallel unsquashfs: Using 2 processors\n5686 inodes (5655 blocks) to write\n\n"
        f"\r[======|           ]  1335/11341  11%\r[====/ ]  1944/11341  17%\n{why}\n"
        "\r[===\\ ]  2975/11341  26%\r[===-  ]  6228/11341  54%\r[======] 11341/11341 100%\n\n"
        "created 5174 files\ncreated 820 directories\ncreated 1 directory\ncreated 0 devices\ncreated 2 hardlinks\n"
        "created 3 users\n[ok] 1/2\n: exit status 2\n",
    )
    assert result.message.splitlines() == [
        "ERROR:   unpackSIF failed: Parallel it is",
        why,
        "created 3 users",
        "[ok] 1/2",
        ": exit status 2",
    ]


def test_the_end_of_a_long_story_is_told(newest: StandIn) -> None:
    newest.answers("build", errors="x" * 10_000 + "\nFATAL:   the end\n", status=1)
    with pytest.raises(EngineError, match=r"x\nFATAL:   the end$") as error:
        engine_of(newest).build("/target", "/definition")
    assert len(str(error.value)) < 2_000


def test_what_a_build_has_started_ends_with_it(install: Install) -> None:
    path = install("apptainer", "/bin/sleep 600 & wait")
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"did not end within 0\.3 s$"):
        Engine(path, "apptainer", "1.4.5").build("/target", "/definition", BuildOptions(timeout=0.3))
    assert time.monotonic() - began < 60
