# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One registry by itself, Debian's, for the time of a block."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab import processes, registry

_PATIENCE = 120  # seconds


@contextmanager
def serving(
    directory: Path, address: str, http: Mapping[str, Any] | None = None, auth: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Serve what lies in ``directory/storage``; registries with one directory share it.

    :param address: ``HOST:PORT``, on this machine.
    :param http: more settings of the server, as ``tls``.
    :param auth: how clients log in; anybody may do anything without.
    :raises DidNotAnswer: it does not start.
    """
    configuration = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}, "delete": {"enabled": True}},
        "http": {"addr": address, "secret": "one for all that share the storage", **(http or {})},
        "compatibility": {"schema1": {"enabled": True}},
        **({"auth": auth} if auth else {}),
    }
    file, log = (directory / f"registry-{address.replace(':', '-')}{end}" for end in (".json", ".log"))
    file.write_text(json.dumps(configuration), encoding="utf-8")
    host, _colon, port = address.rpartition(":")
    with (
        log.open("wb") as out,
        subprocess.Popen([registry.DEBIANS, "serve", file], stdout=out, stderr=out) as process,
    ):
        try:
            deadline = time.monotonic() + _PATIENCE
            while not registry.listens(int(port), host):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise processes.DidNotAnswer(f"{registry.DEBIANS} at {address} does not answer, see {log}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
