# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""The key of a task that signs, from the parameters of a module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ansible.module_utils.basic import AnsibleModule

from ..engine.signing import SigningKey
from .keys import readable, written


@contextmanager
def signing_key(module: AnsibleModule) -> Iterator[SigningKey]:
    """Give the key to sign with, for a block."""
    params = module.params
    with ExitStack() as stack:
        path = params["key"]
        if params["key_content"]:
            path = stack.enter_context(written(module, params["key_content"]))
        if path:
            readable(path)
        yield SigningKey(path, params["keyring"], params["fingerprint"], params["passphrase"])
