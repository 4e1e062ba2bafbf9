# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tasks inside a Singularity or Apptainer image, on the controller or behind another connection."""

from __future__ import annotations

DOCUMENTATION = r"""
name: singularity
short_description: Run tasks inside a Singularity or Apptainer image
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Runs the commands and modules of a play, an ad hoc command or C(ansible-console) inside a SIF file, a sandbox or an
    instance, and copies files into it and out of it. It is the C(sregistry shell) of a playbook.
  - Another connection plugin reaches the host that has the image, see O(transport). All variables and settings of that
    plugin work as they always do, such as C(ansible_host), C(ansible_user) and C(ansible_ssh_common_args).
  - The image is run once for each command. The engine shares the home directory and C(/tmp) of the host with it, unless
    it is told not to. So what Ansible puts there for a task outlives a command, even if the image is read only.
options:
  image:
    description:
      - The image to run tasks in, by the absolute path of a SIF file or of a sandbox directory, or by
        C(instance://NAME) for a running instance.
      - It is a path on the host that has the engine. An instance must have been started by the same user.
      - It must be given.
    type: str
    vars:
      - name: ansible_singularity_image
    env:
      - name: ANSIBLE_SINGULARITY_IMAGE
    ini:
      - section: singularity_connection
        key: image
  transport:
    description:
      - The connection plugin that reaches the host, such as V(ssh), or V(local) for an image on the controller.
    type: str
    default: ssh
    vars:
      - name: ansible_singularity_transport
    env:
      - name: ANSIBLE_SINGULARITY_TRANSPORT
    ini:
      - section: singularity_connection
        key: transport
  executable:
    description:
      - Name or absolute path of the engine on the host.
      - The default is the first of C(apptainer) and C(singularity) that is found on the E(PATH) of the host or in
        C(/usr/local/bin), C(/usr/bin), C(/opt/apptainer/bin) or C(/opt/singularity/bin).
    type: str
    vars:
      - name: ansible_singularity_executable
    env:
      - name: ANSIBLE_SINGULARITY_EXECUTABLE
    ini:
      - section: singularity_connection
        key: executable
  prefix:
    description:
      - Words to put before the engine on the host, for example C([sudo, -n]) to run it as root. They must start it
        without a question.
      - With them, commands begin in C(/) and not in the home directory, which may be closed to another user.
    type: list
    elements: str
    default: []
    vars:
      - name: ansible_singularity_prefix
    ini:
      - section: singularity_connection
        key: prefix
  exec_args:
    description:
      - More options for C(apptainer exec), for example C([--nv, --bind, "/scratch:/scratch"]). Each word is an element.
    type: list
    elements: str
    default: []
    vars:
      - name: ansible_singularity_exec_args
    ini:
      - section: singularity_connection
        key: exec_args
  overlay:
    description:
      - Overlays that keep what tasks change in a SIF file. Each is the path of a directory or of an overlay image on
        the host, with C(:ro) behind it to only read it.
      - It cannot be combined with an instance, which has the overlays that it was started with.
    type: list
    elements: str
    default: []
    vars:
      - name: ansible_singularity_overlay
    ini:
      - section: singularity_connection
        key: overlay
  writable:
    description:
      - Let tasks change a sandbox.
      - It cannot be combined with an instance.
    type: bool
    default: false
    vars:
      - name: ansible_singularity_writable
    env:
      - name: ANSIBLE_SINGULARITY_WRITABLE
    ini:
      - section: singularity_connection
        key: writable
  fakeroot:
    description:
      - Be root inside, without being root outside. The host needs an entry for the user in C(/etc/subuid) and
        C(/etc/subgid), or the engine's own replacement for it.
      - It cannot be combined with an instance.
    type: bool
    default: false
    vars:
      - name: ansible_singularity_fakeroot
    env:
      - name: ANSIBLE_SINGULARITY_FAKEROOT
    ini:
      - section: singularity_connection
        key: fakeroot
  userns:
    description:
      - Run the image in a user namespace. Root needs this where root itself is confined, as in a container.
      - It is not used with an instance.
    type: bool
    default: false
    vars:
      - name: ansible_singularity_userns
    env:
      - name: ANSIBLE_SINGULARITY_USERNS
    ini:
      - section: singularity_connection
        key: userns
  cleanenv:
    description:
      - Keep variables of the host out of the image, such as E(PYTHONPATH) or those of loaded environment modules.
        The variables of the image, and those of the keyword C(environment), are there either way.
    type: bool
    default: true
    vars:
      - name: ansible_singularity_cleanenv
    env:
      - name: ANSIBLE_SINGULARITY_CLEANENV
    ini:
      - section: singularity_connection
        key: cleanenv
notes:
  - Modules need a Python inside the image, and every task needs C(/bin/sh), C(cat), C(head) and C(mkdir) there.
    M(ansible.builtin.raw) needs only C(/bin/sh).
  - A task runs inside as the user that it is outside. C(sudo) and the like do not work inside, because the engine
    allows no change of user. Instead of C(become), use C(ansible_user), O(prefix) or O(fakeroot).
  - Variables of the host that begin with E(APPTAINER_) or E(SINGULARITY_) have the effect that they always have on the
    engine.
  - A task is unreachable, not failed, if nothing can be run in the image.
seealso:
  - module: hpc.sregistry.sregistry_pull
  - plugin: ansible.builtin.ssh
    plugin_type: connection
"""

EXAMPLES = r"""
# ansible-console -i inventory.yml nodes -c hpc.sregistry.singularity \
#   -e ansible_singularity_image=/var/lib/sregistry/library/python-3.13.sif

- name: Work inside an image that is on each node
  hosts: nodes
  gather_facts: false
  vars:
    ansible_connection: hpc.sregistry.singularity
    ansible_singularity_image: /var/lib/sregistry/library/python-3.13.sif
    ansible_python_interpreter: /usr/local/bin/python3
  tasks:
    - name: Ask it for its packages
      ansible.builtin.command: pip list --format json
      changed_when: false

    - name: Do the same in a running instance
      ansible.builtin.command: pip list --format json
      changed_when: false
      vars:
        ansible_singularity_image: instance://python

    - name: Install one more, and keep it in an overlay
      ansible.builtin.pip:
        name: numpy
      vars:
        ansible_singularity_overlay: [/var/lib/overlays/python]
"""

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader

Result = tuple[int, bytes, bytes]

_PIECE = 16 << 20  # bytes of a file that one command carries, and that are held in memory
_INSTANCE = "instance://"
_ENGINES = ("apptainer", "singularity")
_DIRECTORIES = "/usr/local/bin:/usr/bin:/opt/apptainer/bin:/opt/singularity/bin"

# The engine ends with 255 when it cannot run the image (or 1 if its starter cannot), SSH ends with 255 when there is no
# connection, and a command may end with anything. So a command that fails says so behind its own output, and 255 comes
# from SSH alone.
_ENDED = "hpc.sregistry.singularity: the command ended with status "
_NO_ENGINE = "hpc.sregistry.singularity: there is no engine"
_INSIDE = f'/bin/sh -c "$1"; s=$?; [ $s -eq 0 ] || echo "{_ENDED}$s" >&2; [ $s -ne 255 ] || s=254; exit $s'
_OUTSIDE = (
    'engine=; PATH="$PATH:{directories}"; '
    'for name in {names}; do engine=$(command -v "$name") && break; done; '
    '[ "$engine" ] || {{ echo "{missing}" >&2; {drain} exit 254; }}; '
    '{directory}{prefix}"$engine" "$@"; s=$?; [ $s -eq 0 ] || {{ {drain} :; }}; [ $s -ne 255 ] || s=254; exit $s'
)

_STATUS = re.compile(re.escape(_ENDED.encode()) + rb"(\d{1,3})\r?\n")
_COMPLAINT = re.compile(rf"^(?:FATAL|ERROR)\s*:\s*(.*)|^(Error for command .*|{re.escape(_NO_ENGINE)})")
_HINTS = (
    (_NO_ENGINE, "install apptainer or singularity-ce there, or give its path with ansible_singularity_executable"),
    ("no instance found", "start it as the same user, for example with: apptainer instance start IMAGE NAME"),
    (
        "unknown flag|flag needs an argument",
        "correct ansible_singularity_exec_args; each word is an element of its own",
    ),
    ("stat /bin/sh", "an image without /bin/sh can be run, but no task can run in it"),
    (
        "overlay",
        "look at ansible_singularity_overlay: it must exist, and lie on a file system that can hold an overlay",
    ),
    (
        "no such file or directory",
        "bring it there first, for example with hpc.sregistry.sregistry_pull, or correct ansible_singularity_image",
    ),
    ("image format not recognized", "ansible_singularity_image must be a SIF file or a sandbox directory"),
    ("fakeroot|subuid|subgid", "let an administrator add the user to /etc/subuid and /etc/subgid"),
    ("namespace|not permitted|setuid", "try ansible_singularity_userns, or another user"),
)
_FILE_HINTS = (
    ("Read-only", "; it is read only: give ansible_singularity_overlay, or ansible_singularity_writable for a sandbox"),
    (
        "nonexistent|create .*No such file",
        (
            "; if an earlier command made that directory, the image shares it with nobody: leave out --contain, use an "
            "instance, or set ansible_remote_tmp to a directory that is shared"
        ),
    ),
)


@dataclass(frozen=True)
class Inside:
    """The options of the connection, as they were given: they say how to run a command inside an image."""

    image: str
    executable: str | None = None
    prefix: Sequence[str] = ()
    exec_args: Sequence[str] = ()
    overlay: Sequence[str] = ()
    writable: bool = False
    fakeroot: bool = False
    userns: bool = False
    cleanenv: bool = True

    @property
    def is_instance(self) -> bool:
        """True if it is an instance that runs already."""
        return self.image.startswith(_INSTANCE)

    def check(self) -> None:
        """Refuse what the engine would misunderstand, or not tell.

        :raises AnsibleError: naming the variable.
        """
        if not self.image:
            raise AnsibleError(
                "ansible_singularity_image is not set; give the path of a SIF file or sandbox, or instance://NAME"
            )
        if not self.is_instance and not self.image.startswith("/"):
            raise AnsibleError(
                f"ansible_singularity_image is {self.image!r}, which is neither an absolute path nor instance://NAME; "
                "bring images from a registry to the host with hpc.sregistry.sregistry_pull first"
            )
        if self.executable and self.executable.startswith("-"):
            raise AnsibleError(
                f"ansible_singularity_executable is {self.executable!r}, which is not the name of a program"
            )
        if self.is_instance:
            ignored = [name for name in ("overlay", "writable", "fakeroot") if getattr(self, name)]
            if ignored:
                raise AnsibleError(
                    f"ansible_singularity_{ignored[0]} has no effect on {self.image}, which runs already; "
                    "give it to 'apptainer instance start' instead"
                )

    def engine_arguments(self) -> list[str]:
        """Return the arguments of the engine, up to and with the image."""
        arguments = ["--silent", "exec"]
        arguments += ["--cleanenv"] * self.cleanenv
        if not self.is_instance:
            arguments += ["--userns"] * self.userns + ["--fakeroot"] * self.fakeroot + ["--writable"] * self.writable
            for overlay in self.overlay:
                arguments += ["--overlay", overlay]
        return [*arguments, *self.exec_args, "--", self.image]

    def command(self, command: str, drain: bool = False) -> str:
        """Return the command for a shell of the host that runs a command in a shell of the image.

        :param command: for ``/bin/sh -c`` inside.
        :param drain: read standard input to its end if the command fails, so that whoever writes to it is not cut off.
        """
        script = _OUTSIDE.format(
            directories=_DIRECTORIES,
            names=shlex.join([self.executable] if self.executable else _ENGINES),
            missing=_NO_ENGINE,
            prefix="".join(f"{shlex.quote(word)} " for word in self.prefix),
            drain="cat > /dev/null;" if drain else "",
            directory="cd /; " if self.prefix else "",
        )
        inside = ["/bin/sh", "-c", _INSIDE, "sh", command]
        return shlex.join(["/bin/sh", "-c", script, "sh", *self.engine_arguments(), *inside])


def inner_result(result: Result) -> Result | None:
    """Return the result of the command inside; None if it was never run to its end.

    :param result: status, output and errors of what :meth:`Inside.command` gives.
    """
    status, output, errors = result
    if status == 0:
        return result
    # With a terminal, errors are part of the output. SSH may add words of its own behind them.
    at_errors, at_output = _last_status(errors), _last_status(output)
    if at_errors:
        return int(at_errors[1]), output, errors[: at_errors.start()] + errors[at_errors.end() :]
    if at_output:
        return int(at_output[1]), output[: at_output.start()] + output[at_output.end() :], errors
    return None


def _last_status(text: bytes) -> re.Match[bytes] | None:
    return max(_STATUS.finditer(text), key=lambda match: match.start(), default=None)


def complaint(result: Result) -> tuple[str, str]:
    """Return the complaint of the engine, and what may help."""
    status, output, errors = result
    text = re.sub(r"\x1b\[[0-9;]*m", "", to_text(errors + b"\n" + output))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Shared connection to")]
    found = [match[1] or match[2] for match in map(_COMPLAINT.match, lines) if match]
    said = "; ".join(found or lines[-5:])[:800]
    for pattern, hint in _HINTS:
        if re.search(pattern, said):
            return said.replace(_NO_ENGINE, "there is no engine"), hint
    return said or f"the engine ended with status {status}", "run it on the host by hand to see more"


class Connection(ConnectionBase):  # type: ignore[misc]  # ansible-core has no types
    """A connection into an image, which goes over a connection to its host."""

    transport = "hpc.sregistry.singularity"
    has_pipelining = True

    def __init__(self, play_context: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(play_context, *args, **kwargs)
        self._arguments = (args, {**kwargs, "shell": self._shell})
        self._reached_by = ""
        self._variables: tuple[Any, Any] | None = None
        self._connected = False
        # The executor of ansible-core sets the options of a connection that it finds under this name: those of the
        # task, and all variables that the other plugin asks for.
        self.ssh_type_conn: Any = None

    def _resolve_option_variables(self, variables: Any, templar: Any) -> Any:
        # meta: reset_connection only calls this, from ansible-core 2.19 on; before, it gives all variables.
        self._variables = (variables, templar)
        return super()._resolve_option_variables(variables, templar)

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        """Take the options, and make the connection to the host."""
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        name = super().get_option("transport")
        if name != self._reached_by:
            self.ssh_type_conn, self._reached_by = self._host_connection(name), name
        if self._variables is not None:
            var_options = self.ssh_type_conn._resolve_option_variables(*self._variables)
            self._variables = None
        self.ssh_type_conn.set_options(task_keys=task_keys, var_options=var_options)

    def _host_connection(self, name: str) -> Any:
        args, kwargs = self._arguments
        made = None if name == self.transport else connection_loader.get(name, self._play_context, *args, **kwargs)
        if made is None:
            raise AnsibleError(f"ansible_singularity_transport is {name!r}, which is not a connection plugin to a host")
        return made

    def get_option(self, option: str, hostvars: Any = None) -> Any:
        """Return an option of this plugin, or of the one that reaches the host."""
        if option == "remote_user":
            # By this name ansible-core would look for the home directory, as ~NAME. But inside one may be another user
            # than outside, or one without a name; without a name here, it asks for ~.
            return None
        try:
            return super().get_option(option, hostvars=hostvars)
        except KeyError:
            if self.ssh_type_conn is None:
                raise
            return self.ssh_type_conn.get_option(option, hostvars=hostvars)

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        """Tell whether modules go by standard input, which the connection to the host decides."""
        self.ssh_type_conn.become = self.become
        return bool(self.ssh_type_conn.is_pipelining_enabled(wrap_async))

    def _connect(self) -> Connection:
        if not self._connected:
            self.ssh_type_conn._connect()
            self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Result:
        """Run a command inside.

        :raises AnsibleConnectionFailure: if there is no way to the host or into the image.
        """
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        inside = self._inside()
        self.ssh_type_conn.become = self.become
        # Input follows only when a become plugin has got through.
        command = inside.command(cmd, drain=bool(in_data) and not (sudoable and self.become))
        result = self.ssh_type_conn.exec_command(command, in_data=in_data, sudoable=sudoable)
        answer = inner_result(result)
        if answer is None:
            said, hint = complaint(result)
            where = f"the image {inside.image} on {self._play_context.remote_addr}"
            raise AnsibleConnectionFailure(f"cannot run tasks in {where}: {said}; {hint}")
        return answer

    def put_file(self, in_path: str, out_path: str) -> None:
        """Write a file inside, by the standard input of as many commands as it has pieces."""
        super().put_file(in_path, out_path)
        target = shlex.quote(out_path)
        try:
            with open(to_bytes(in_path, errors="surrogate_or_strict"), "rb") as file:
                piece = file.read(_PIECE)
                self._transfer(f"cat > {target}" if piece else f": > {target}", in_path, out_path, piece)
                while piece := file.read(_PIECE):
                    self._transfer(f"cat >> {target}", in_path, out_path, piece)
        except FileNotFoundError as error:
            raise AnsibleFileNotFound(f"there is no file {in_path} to be copied to {out_path}") from error
        except OSError as error:
            raise AnsibleError(f"cannot read {in_path}: {error.strerror}") from error

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Read a file inside, by the standard output of as many commands as it has pieces."""
        super().fetch_file(in_path, out_path)
        pieces = self._pieces(in_path, out_path)
        piece = next(pieces)
        path = to_bytes(out_path, errors="surrogate_or_strict")
        try:
            with open(path, "wb") as file:
                file.write(piece)
                for piece in pieces:
                    file.write(piece)
        except OSError as error:
            raise AnsibleError(f"cannot write {out_path}: {error.strerror}") from error
        except AnsibleError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise

    def _pieces(self, in_path: str, out_path: str) -> Iterator[bytes]:
        source, number, piece = shlex.quote(in_path), 0, b""
        while number == 0 or len(piece) == _PIECE:
            # dd only moves the position in the file that both have open
            seek = f"dd bs={_PIECE} skip={number} count=0 2> /dev/null && " if number else ""
            piece = self._transfer(f"{{ {seek}head -c {_PIECE}; }} < {source}", in_path, out_path)
            yield piece
            number += 1

    def _transfer(self, command: str, in_path: str, out_path: str, piece: bytes | None = None) -> bytes:
        status, output, errors = self.exec_command(command, in_data=piece, sudoable=False)
        if status != 0:
            said = to_text(errors).strip() or f"status {status}"
            hint = next((way for words, way in _FILE_HINTS if re.search(words, said)), "")
            image = self._inside().image
            raise AnsibleError(f"cannot copy {in_path} to {out_path} with the image {image}: {said[-400:]}{hint}")
        return output

    def reset(self) -> None:
        """Reset the connection to the host. Nothing inside outlives a command."""
        self.ssh_type_conn.reset()
        self.close()

    def close(self) -> None:
        """Close the connection to the host."""
        if self.ssh_type_conn is not None:
            self.ssh_type_conn.close()
        self._connected = False

    def _inside(self) -> Inside:
        get = super().get_option
        inside = Inside(
            image=get("image") or "",
            executable=get("executable"),
            prefix=get("prefix"),
            exec_args=get("exec_args"),
            overlay=get("overlay"),
            writable=get("writable"),
            fakeroot=get("fakeroot"),
            userns=get("userns"),
            cleanenv=get("cleanenv"),
        )
        inside.check()
        return inside
