# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pipeline in a directory: the file is read, compared, and written in place; nothing is committed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .._change import Plan, Step, carry_out
from .._files import make_directory, write_atomically
from .._problem import Problem
from .git import MAX_OUTPUT
from .wish import as_result, decoded, wish_of

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from .checks import Server


def to_directory(module: AnsibleModule, server: Server | None) -> dict[str, Any]:
    """Write the file into a directory; nothing is committed."""
    options = module.params
    root = options["path"]
    if not os.path.isdir(root):
        raise Problem(
            f"{root} is not a directory", "set path to the repository's root; config_path names the file in it"
        )
    wish = wish_of(module, server, {}, options["slug"] or "")
    files = {path: _file(root, path) for path in wish.paths}
    before, after = wish.text(files, root)
    target = os.path.realpath(os.path.join(root, wish.path))

    def write() -> None:
        if not after:
            os.remove(target)
            return
        make_directory(os.path.dirname(target))
        write_atomically(target, after)

    steps = [Step(f"{'write' if after else 'remove'} {wish.path}", write)] if before != after else []
    plan = Plan({"text": before}, {"text": after}, steps)
    result = carry_out(
        plan,
        check_mode=module.check_mode,
        reread=lambda: {"text": decoded(_file(root, wish.path) or b"", target)},
    )
    return as_result(module, {**result, "text": after}, [wish], {target: result["diff"]} if steps else {})


def _file(root: str, path: str) -> bytes | None:
    """Return a file below a root; raise a Problem where a link leads out of it."""
    target = os.path.realpath(os.path.join(root, path))
    if os.path.commonpath([target, os.path.realpath(root)]) != os.path.realpath(root):
        raise Problem(f"{path} leads out of {root}, to {target}", "name a file below path")
    if os.path.isdir(target):
        raise Problem(f"{target} is a directory", "set config_path to a file")
    if not os.path.exists(target):
        return None
    if not os.path.isfile(target):  # a FIFO would be waited for
        raise Problem(f"{target} is not a regular file", "set config_path to a file")
    if os.path.getsize(target) > MAX_OUTPUT:
        raise Problem(f"{target} is larger than {MAX_OUTPUT >> 20} MiB", "set config_path to another file")
    with open(target, "rb") as stream:
        return stream.read()
