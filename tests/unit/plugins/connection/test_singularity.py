# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.playbook.play_context import PlayContext
from ansible_collections.hpc.sregistry.plugins.connection import singularity
from ansible_collections.hpc.sregistry.plugins.connection.singularity import Connection, Inside, complaint, inner_result

START = ["--silent", "exec"]
NASTY = (
    "a b",
    "it's",
    '"',
    "$HOME",
    "$(id)",
    "`id`",
    ";",
    "&& id",
    "*",
    "\\",
    "-n",
    "--",
    "",
    "one\ntwo",
    "grün",
    "!x",
)


@pytest.mark.parametrize(
    ("inside", "arguments"),
    [
        (Inside("/i.sif"), ["--cleanenv", "--", "/i.sif"]),
        (Inside("/i.sif", cleanenv=False), ["--", "/i.sif"]),
        (Inside("/i.sif", userns=True, fakeroot=True), ["--cleanenv", "--userns", "--fakeroot", "--", "/i.sif"]),
        (Inside("/box", writable=True), ["--cleanenv", "--writable", "--", "/box"]),
        (
            Inside("/i.sif", overlay=["/a", "/b:ro"]),
            ["--cleanenv", "--overlay", "/a", "--overlay", "/b:ro", "--", "/i.sif"],
        ),
        (
            Inside("/i.sif", exec_args=["--nv", "--bind", "/s:/s"]),
            ["--cleanenv", "--nv", "--bind", "/s:/s", "--", "/i.sif"],
        ),
        (Inside("instance://db", userns=True), ["--cleanenv", "--", "instance://db"]),
        (Inside("/-x"), ["--cleanenv", "--", "/-x"]),
    ],
)
def test_options_become_arguments_of_the_engine(inside: Inside, arguments: list[str]) -> None:
    inside.check()
    assert inside.engine_arguments() == [*START, *arguments]


@pytest.mark.parametrize(
    ("inside", "word"),
    [
        (Inside(""), "ansible_singularity_image is not set"),
        (Inside("image.sif"), "absolute"),
        (Inside("~/image.sif"), "absolute"),
        (Inside("docker://debian"), "sregistry_pull"),
        (Inside("--help"), "absolute"),
        (Inside("/i.sif", executable="-x"), "ansible_singularity_executable"),
        (Inside("instance://i", overlay=["/a"]), "ansible_singularity_overlay"),
        (Inside("instance://i", writable=True), "ansible_singularity_writable"),
        (Inside("instance://i", fakeroot=True), "ansible_singularity_fakeroot"),
    ],
)
def test_what_the_engine_would_misunderstand_is_refused(inside: Inside, word: str) -> None:
    with pytest.raises(AnsibleError, match=word):
        inside.check()


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Return a stand-in for the engine: it notes its arguments up to the image, and runs the rest in ``box``."""
    (tmp_path / "box").mkdir()
    path = tmp_path / "the engine's"
    path.write_text(
        f"""#!/bin/sh
: > {tmp_path}/arguments
while [ "$1" != -- ]; do printf '%s\\0' "$1" >> {tmp_path}/arguments; shift; done
printf '%s\\0' "$2" >> {tmp_path}/arguments
shift 2
cd {tmp_path}/box && exec "$@"
"""
    )
    path.chmod(0o755)
    return path


def run(command: str, given: bytes | None = None) -> tuple[int, bytes, bytes]:
    """Run a command as a connection to a host does: by a shell, and with an error if it does not take all input."""
    pipe = subprocess.PIPE
    with subprocess.Popen(["/bin/sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, cwd="/") as process:
        assert process.stdin
        process.stdin.write(given or b"")
        process.stdin.flush()
        output, errors = process.communicate(timeout=1200)
    return process.returncode, output, errors


def test_nothing_breaks_out_of_its_quotes(engine: Path, tmp_path: Path) -> None:
    inside = Inside(
        "/a 'b' $(touch x).sif",
        executable=str(engine),
        prefix=("env", "A=it's $HOME", "sh", "-c", '[ "$A" = "it\'s \\$HOME" ] && exec "$@"', "$0; id"),
        exec_args=[word for word in NASTY if word != "--"],
        overlay=["; id"],
    )
    status, output, errors = run(inside.command("printf '%s|' \"it's\" '$HOME' '\\e'"))
    assert (status, output, errors) == (0, b"it's|$HOME|\\e|", b"")
    noted = (tmp_path / "arguments").read_bytes().decode().split("\0")[:-1]
    assert [*noted[:-1], "--", noted[-1]] == inside.engine_arguments()
    assert not list((tmp_path / "box").iterdir())


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("echo out; echo err >&2", (0, b"out\n", b"err\n")),
        ("echo out; echo err >&2; exit 3", (3, b"out\n", b"err\n")),
        ("printf no-newline >&2; exit 255", (255, b"", b"no-newline")),
        ("exit 254", (254, b"", b"")),
        ("kill -9 $$", (137, b"", b"Killed\n")),
        ("exec 2>&-; exit 4", (4, b"", b"")),
        (f"echo '{singularity._ENDED}0' >&2; exit 5", (5, b"", f"{singularity._ENDED}0\n".encode())),
        ("if", (2, b"", b"")),
    ],
)
def test_the_status_of_a_command_is_its_own(engine: Path, command: str, result: tuple[int, bytes, bytes]) -> None:
    answer = inner_result(run(Inside("/i.sif", executable=str(engine)).command(command)))
    assert answer is not None
    assert answer[:2] == result[:2]
    assert answer[2] == result[2] or command in ("if", "kill -9 $$")
    assert not singularity._STATUS.search(answer[2]) or "echo '" in command


def test_the_status_is_found_in_what_a_terminal_shows() -> None:
    ended = singularity._ENDED.encode()
    shown = b"out\r\nerr\r\n" + ended + b"255\r\n"
    assert inner_result((254, shown, b"Shared connection to n closed.\r\n")) == (
        255,
        b"out\r\nerr\r\n",
        b"Shared connection to n closed.\r\n",
    )
    assert inner_result((3, b"out", b"err\n" + ended + b"3\nShared connection\n")) == (
        3,
        b"out",
        b"err\nShared connection\n",
    )


@pytest.mark.parametrize("status", [255, 254, 1, 137])
def test_a_failure_of_the_engine_is_no_status_of_a_command(tmp_path: Path, status: int) -> None:
    engine = tmp_path / "engine"
    engine.write_text(f"#!/bin/sh\necho 'FATAL:   no instance found with name x' >&2\nexit {status}\n")
    engine.chmod(0o755)
    result = run(Inside("/i.sif", executable=str(engine)).command("true"))
    assert result[0] == (254 if status == 255 else status)  # 255 is SSH's own
    assert inner_result(result) is None
    assert complaint(result)[0] == "no instance found with name x" and "instance start" in complaint(result)[1]


def test_a_host_without_an_engine(tmp_path: Path) -> None:
    result = run(Inside("/i.sif", executable=str(tmp_path / "none")).command("true"))
    assert result[0] == 254 and inner_result(result) is None
    assert complaint(result)[0] == "there is no engine"


@pytest.mark.parametrize("names", [("apptainer",), ("singularity",), ("apptainer", "singularity")])
def test_the_first_engine_is_taken(
    engine: Path, tmp_path: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name}\nexec '{tmp_path}/the engine'\\''s' \"$@\"\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", "/none")
    monkeypatch.setattr(singularity, "_DIRECTORIES", str(tmp_path))
    assert run(Inside("/i.sif").command("echo ran")) == (0, f"{names[0]}\nran\n".encode(), b"")


@pytest.mark.parametrize(
    ("errors", "output", "said", "hint"),
    [
        (b"\x1b[91mERROR  : no namespace\x1b[0m\n", b"", "no namespace", "userns"),
        (b"Shared connection to h closed.\r\n", b"FATAL:   stat /bin/sh: no such file\r\n", "stat /bin/sh", "/bin/sh"),
        (b'Error for command "exec": unknown flag: --x\n', b"Options for exec:\n  ...\n", "--x", "exec_args"),
        (b"FATAL: failed to open overlay image /x: no such file or directory", b"", "/x", "singularity_overlay"),
        (b"FATAL: could not open image /x: no such file or directory", b"", "/x", "sregistry_pull"),
        (b"", b"", "status 9", "by hand"),
        (b"line\n" * 9, b"", "line; line; line; line; line", "by hand"),
    ],
)
def test_the_words_of_the_engine_and_the_way_out(errors: bytes, output: bytes, said: str, hint: str) -> None:
    words, way = complaint((9, output, errors))
    assert said in words and hint in way
    assert "\n" not in words and "\x1b" not in words and "Shared" not in words


class Host:
    """A connection to this machine."""

    def __init__(self) -> None:
        self.become: Any = None
        self.commands: list[tuple[str, bool]] = []

    def _connect(self) -> None:
        pass

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command, and remember it."""
        self.commands.append((cmd, sudoable))
        return run(cmd, in_data)


@pytest.fixture
def connection(engine: Path, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """Return a connection with the stand-in, whose files go in pieces of 4 bytes."""
    made = Connection(PlayContext())
    made.ssh_type_conn = Host()
    monkeypatch.setattr(made, "_inside", lambda: Inside("/i.sif", executable=str(engine)))
    monkeypatch.setattr(singularity, "_PIECE", 4)
    return made


@pytest.mark.parametrize("content", [b"", b"abc", b"abcd", b"abcde", b"\x00\r\n\xff" * 2, b"\x00\r\n\xff" * 2 + b"\n"])
def test_files_go_in_and_out_in_pieces(connection: Connection, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source").write_bytes(content)
    name = "it's `a` $name"
    (tmp_path / "box" / name).write_bytes(b"something longer was here before")
    connection.put_file(str(tmp_path / "source"), name)
    assert (tmp_path / "box" / name).read_bytes() == content
    pieces = -(-len(content) // 4) or 1
    assert len(connection.ssh_type_conn.commands) == pieces
    connection.fetch_file(name, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content
    assert len(connection.ssh_type_conn.commands) == pieces + len(content) // 4 + 1
    assert not any(sudoable for _command, sudoable in connection.ssh_type_conn.commands)  # no terminal


def test_files_that_are_not_there_are_named(connection: Connection, tmp_path: Path) -> None:
    with pytest.raises(AnsibleFileNotFound, match="none to be copied to x"):
        connection.put_file(str(tmp_path / "none"), "x")
    with pytest.raises(AnsibleError, match=r"cannot copy none to .*/back with the image /i.sif"):
        connection.fetch_file("none", str(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("words", "hint"), [("Read-only file system", "overlay"), ("Directory nonexistent", "--contain"), ("Killed", "")]
)
def test_a_file_that_cannot_be_written_inside(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, hint: str
) -> None:
    (tmp_path / "source").write_bytes(b"x")
    monkeypatch.setattr(connection, "exec_command", lambda *_, **__: (2, b"", f"sh: {words}\n".encode()))
    with pytest.raises(AnsibleError) as caught:
        connection.put_file(str(tmp_path / "source"), "/opt/x")
    assert f"to /opt/x with the image /i.sif: sh: {words}" in str(caught.value)
    assert hint in str(caught.value) and bool(hint) == ("; " in str(caught.value))


def test_input_that_nobody_reads_does_no_harm(connection: Connection, tmp_path: Path) -> None:
    status, output, errors = connection.exec_command("exit 3", in_data=b"x" * (4 << 20))
    assert (status, output, errors) == (3, b"", b"")


def test_an_image_that_cannot_be_run_is_unreachable(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_inside", lambda: Inside("/i.sif", executable="/none"))
    with pytest.raises(
        AnsibleConnectionFailure, match=r"cannot run tasks in the image /i.sif on .*: there is no engine"
    ):
        connection.exec_command("true")
