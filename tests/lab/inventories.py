# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large inventories, which nobody pulls image by image."""

from __future__ import annotations

FILL = """\
import glob, json, os
(path,) = glob.glob("{inventory}/images/*.json")
document = json.load(open(path))
for number in range({count}):
    document.update(repository=f"test/copy{{number}}", name=f"copy{{number}}", collection="test")
    document["uri"] = f"{{document['registry']}}/test/copy{{number}}:latest"
    name = f"{{document['registry']}}/{{document['repository']}}={{document['tag']}},{{document['platform']}}"
    name = name.replace("/", "+").replace(":", "=") + ".json"
    with open(os.path.join(os.path.dirname(path), name), "w") as stream:
        json.dump(document, stream)
"""
"""Python that fills ``inventory``, a directory with one document, with ``count`` copies of that."""
