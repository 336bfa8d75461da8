# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the machine's QEMU handlers as they were found: `handlers.py save|restore FILE`.

binfmt_misc is one for the machine: what a host in a container registers, the machine has too. `save` notes the handlers
before the first host comes up; `restore` removes those that came since, and mends those that changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BINFMT = Path("/proc/sys/fs/binfmt_misc")


def mounted() -> bool:
    return (BINFMT / "register").exists()


def handlers() -> dict[str, str]:
    """Return the text of each QEMU handler that the kernel has, by name."""
    return {entry.name: entry.read_text() for entry in BINFMT.glob("qemu-*")} if mounted() else {}


def save(state: Path) -> None:
    """Note the handlers, unless they are noted already."""
    if not state.exists():
        state.write_text(json.dumps({"mounted": mounted(), "handlers": handlers()}))


def registration(name: str, text: str) -> str:
    """Return the line that registers the handler which the kernel describes as `text`."""
    fields = dict(line.partition(" ")[::2] for line in text.splitlines() if " " in line)
    escaped = {
        key: "".join(f"\\x{byte:02x}" for byte in bytes.fromhex(fields.get(key, ""))) for key in ("magic", "mask")
    }
    flags = "".join(flag for flag in fields["flags:"] if flag in "POCF")
    return f":{name}:M:{fields['offset']}:{escaped['magic']}:{escaped['mask']}:{fields['interpreter']}:{flags}"


def restore(state: Path) -> None:
    """Make the handlers what they were when they were noted."""
    if not state.exists():
        return
    found = json.loads(state.read_text())
    if not found["mounted"] and not mounted():
        # The hosts mount binfmt_misc in their own namespaces: what they registered is there all the same.
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    now = handlers()
    changed = [name for name in now if now[name] != found["handlers"].get(name)]
    for name in changed:
        (BINFMT / name).write_text("-1")
    for name, text in found["handlers"].items():
        if text != now.get(name):
            (BINFMT / "register").write_text(registration(name, text))
            if "disabled" in text.splitlines()[:1]:
                (BINFMT / name).write_text("0")
    if not found["mounted"]:
        subprocess.run(["umount", str(BINFMT)], check=False)
    if changed:
        print(f"CHANGED put back the machine's handlers: {' '.join(sorted(changed))}")


if __name__ == "__main__":
    {"save": save, "restore": restore}[sys.argv[1]](Path(sys.argv[2]))
