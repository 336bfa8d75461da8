# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What ansible-test sanity would say in minutes, said in a second: `habits.py FILE…`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def complaints(path: Path) -> list[str]:
    """Return what sanity's pylint would refuse in a file."""
    text = path.read_text()
    lines = text.splitlines()
    found = []
    for node in ast.walk(ast.parse(text)):
        name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
        if name == "_" and not isinstance(getattr(node, "ctx", None), ast.Load):
            found.append((node.lineno, "sanity refuses the name `_`: call it what it is, or index the tuple"))
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Lambda)
            and isinstance(node.targets[0], ast.Name)
        ):
            found.append((node.lineno, "use a def, not a lambda with a name"))
        if path.parts[0] != "plugins":
            continue
        if isinstance(node, ast.Assert):
            found.append((node.lineno, "no assert in plugins: raise what is meant"))
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("subprocess.run", "subprocess.Popen", "subprocess.check_output")
            and "pylint: disable=ansible-bad-function" not in lines[node.lineno - 1]
        ):
            found.append(
                (
                    node.lineno,
                    "`# pylint: disable=ansible-bad-function` on this line, and why run_command will not do above it",
                )
            )
    return [f"{path}:{line}: {complaint}" for line, complaint in sorted(found)]


if __name__ == "__main__":
    everything = [complaint for name in sys.argv[1:] for complaint in complaints(Path(name))]
    print("\n".join(everything), end="\n" if everything else "")
    sys.exit(bool(everything))
