# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bound on the time that the body of an answer takes in all.

The timeout of a connection is for each wait, so a server that sends a byte now and then could hold a run for ever.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests


@contextmanager
def ending(response: requests.Response, seconds: float) -> Iterator[threading.Event]:
    """End the connection of a response if a block takes longer, so that reading from it fails, or comes to an end.

    The event is set then.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(OSError, ValueError):
            connection = socket.fromfd(response.raw.fileno(), socket.AF_INET, socket.SOCK_STREAM)
            with connection:
                connection.shutdown(socket.SHUT_RDWR)  # which wakes whoever reads from it, as closing does not

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
