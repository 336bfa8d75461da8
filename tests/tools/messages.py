# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print every message of the collection as a page of the documentation: what is wrong, and what to do; `messages.py`."""

from __future__ import annotations

import ast
from pathlib import Path

UTILS = Path(__file__).resolve().parents[2] / "plugins/module_utils"


def text(node: ast.expr) -> str:
    """Return an expression as a person reads it: what is put in stands in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "…"
    if isinstance(node, ast.IfExp):
        return f"{text(node.body)} / {text(node.orelse)}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text(node.left) + text(node.right)
    return "…"


def messages(path: Path) -> list[tuple[str, str]]:
    """Return the Problems that a file raises, in its order."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem" and node.args
    ]
    calls.sort(key=lambda node: node.lineno)
    found = [(text(node.args[0]), text(node.args[1]) if len(node.args) > 1 else "") for node in calls]
    return [pair for pair in dict.fromkeys(found) if pair[0].strip("… /")]


def cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")


def main() -> None:
    """Print the page."""
    print("# Every message\n\nMade from the code: `…` is what the message names.\n")
    for path in sorted(UTILS.rglob("*.py")):
        found = messages(path)
        if found:
            print(f"## {path.relative_to(UTILS).with_suffix('')}\n\n| message | what to do |\n|---|---|")
            for what, hint in found:
                print(f"| {cell(what)} | {cell(hint)} |")
            print()


if __name__ == "__main__":
    main()
