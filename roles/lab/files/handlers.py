# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the machine's handlers as they were found: `handlers.py save|restore FILE`.

binfmt_misc is one for the machine: what a host in a container registers, the machine has too. `save` notes the handlers
before the first host comes up; `restore` removes those that came since, and mends those that changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BINFMT = Path("/proc/sys/fs/binfmt_misc")


@contextmanager
def mounted() -> Iterator[bool]:
    """Mount binfmt_misc where it is not, for a while; tell whether it was. Unmounted, its handlers work all the same."""
    was = (BINFMT / "register").exists()
    if not was:
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    try:
        yield was
    finally:
        if not was:
            subprocess.run(["umount", str(BINFMT)], check=False)


def handlers() -> dict[str, str]:
    """Return the text of each handler that the kernel has, by name."""
    return {entry.name: entry.read_text() for entry in BINFMT.iterdir() if entry.name not in ("register", "status")}


def save(state: Path) -> None:
    """Note the handlers, unless they are noted already."""
    if not state.exists():
        with mounted():
            state.write_text(json.dumps(handlers()))


def registration(name: str, text: str) -> str:
    """Return the line that registers the handler which the kernel describes as `text`."""
    fields = dict(line.partition(" ")[::2] for line in text.splitlines() if " " in line)
    flags = "".join(flag for flag in fields["flags:"] if flag in "POCF")
    if "extension" in fields:
        return f":{name}:E::{fields['extension'].lstrip('.')}::{fields['interpreter']}:{flags}"
    escaped = {
        key: "".join(f"\\x{byte:02x}" for byte in bytes.fromhex(fields.get(key, ""))) for key in ("magic", "mask")
    }
    return f":{name}:M:{fields['offset']}:{escaped['magic']}:{escaped['mask']}:{fields['interpreter']}:{flags}"


def restore(state: Path) -> None:
    """Make the handlers what they were when they were noted."""
    if not state.exists():
        return
    found = json.loads(state.read_text())
    with mounted():
        now = handlers()
        changed = [name for name in now if now[name] != found.get(name)]
        for name in changed:
            (BINFMT / name).write_text("-1")
        for name, text in found.items():
            if text != now.get(name):
                (BINFMT / "register").write_text(registration(name, text))
                if text.startswith("disabled"):
                    (BINFMT / name).write_text("0")
    if changed or found.keys() - now.keys():
        print("CHANGED put back the machine's handlers")


if __name__ == "__main__":
    {"save": save, "restore": restore}[sys.argv[1]](Path(sys.argv[2]))
