# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print every message of the collection as a page of the documentation: what is wrong, and what to do; `messages.py`."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Iterator

import yaml

ROOT = Path(__file__).resolve().parents[2]
UTILS = ROOT / "plugins/module_utils"
# Problem, and what is derived of it.
PROBLEMS = {"Problem"} | {
    name
    for path in UTILS.rglob("*.py")
    for name in re.findall(
        r"^class (\w+)\((?:\w+\.)?(?:Problem|Lost)\)", path.read_text(encoding="utf-8"), re.MULTILINE
    )
}


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
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROBLEMS and node.args
    ]
    calls.sort(key=lambda node: node.lineno)
    found = [(text(node.args[0]), text(node.args[1]) if len(node.args) > 1 else "") for node in calls]
    return [pair for pair in dict.fromkeys(found) if pair[0].strip("… /")]


def of_tasks(value: object) -> Iterator[str]:
    """Yield what the tasks in a file of a role or a playbook say where they fail."""
    if isinstance(value, list):
        for item in value:
            yield from of_tasks(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in ("ansible.builtin.fail", "ansible.builtin.assert"):
                said = item.get("msg") or item.get("fail_msg")
                yield re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "…", said, flags=re.DOTALL) if said else ""
            else:
                yield from of_tasks(item)


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
    for path in sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]):
        said = [
            words
            for words in dict.fromkeys(of_tasks(yaml.safe_load(path.read_text(encoding="utf-8"))))
            if words.strip("… \n")
        ]
        if said:
            print(f"## {path.relative_to(ROOT).with_suffix('')}\n\n| message |\n|---|")
            for words in said:
                print(f"| {cell(words)} |")
            print()


if __name__ == "__main__":
    main()
