# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock under which functions import what most runs do not need.

Ansible ships a module and all that it imports in a zip archive. Before Python 3.10, ``zipimport`` has only the legacy
``load_module``, whose modules lack ``__spec__._initializing`` while they are executed. So a second thread that imports
the same module then does not wait: it gets one from ``sys.modules`` that still lacks most of its names.

So each import in a function, of what travels in the archive, stands in ``with importing:``. What that module imports
itself, at its head, is executed under the same lock. Other libraries, such as ``requests``, come from the file system,
where every Python waits until the first import of a module has ended: they need no lock of ours.
"""

from __future__ import annotations

import threading

importing = threading.RLock()  # re-entrant, since what is imported may call a function that imports
