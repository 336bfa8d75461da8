# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The packages of plugins/module_utils: imports run downwards, in no circle, and between packages take public names alone."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
UTILS = PLUGINS / "module_utils"
# From the top to the ground: a package imports only from the floors below its own. What stands flat is the ground.
FLOORS = [
    {"_report", "_host"},
    {"_pipeline", "_runner", "_buildx"},
    {"_drone", "_image", "_binfmt", "_buildkitd", "_record"},
    {"_docker"},
    {""},
]
# What is flat, and composes packages: it stands above them all.
ABOVE = {"_preflight"}


class Import(NamedTuple):
    """One name that one file imports from another."""

    importer: str  # as `_binfmt/plan`
    imported: str
    name: str  # "" for the file itself
    line: int


def files() -> list[str]:
    return sorted(path.relative_to(UTILS).with_suffix("").as_posix() for path in UTILS.rglob("*.py"))


def imports() -> Iterator[Import]:
    known = set(files())
    for file in sorted(known):
        here = Path(file).parent.parts
        for node in ast.walk(ast.parse((UTILS / f"{file}.py").read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = here[: len(here) - node.level + 1]
            target = "/".join((*base, *(node.module or "").split("."))).strip("/")
            for alias in node.names:
                inner = f"{target}/{alias.name}".strip("/")
                if inner in known:
                    yield Import(file, inner, "", node.lineno)
                else:
                    assert target in known, f"{file}.py:{node.lineno}: {target} is not there"
                    yield Import(file, target, alias.name, node.lineno)


def package(file: str) -> str:
    return file.partition("/")[0] if "/" in file else ""


def floor(file: str) -> int:
    if file in ABOVE:
        return -1
    return next(number for number, packages in enumerate(FLOORS) if package(file) in packages)


def test_every_package_has_a_floor():
    assert {package(file) for file in files()} == set().union(*FLOORS)


def test_no_package_imports_one_beside_it_or_above_it():
    wrong = [
        f"{one.importer}.py:{one.line} imports {one.imported}"
        for one in imports()
        if package(one.importer) != package(one.imported) and floor(one.importer) >= floor(one.imported)
    ]
    assert wrong == []


def test_packages_take_public_names_of_each_other():
    wrong = [
        f"{one.importer}.py:{one.line} imports {one.name} of {one.imported}"
        for one in imports()
        if package(one.importer) != package(one.imported) and one.name.startswith("_")
    ]
    assert wrong == []


def test_no_files_import_each_other_in_a_circle():
    below: dict[str, set[str]] = {}
    for one in imports():
        below.setdefault(one.importer, set()).add(one.imported)
    done: set[str] = set()

    def visit(file: str, path: tuple[str, ...]) -> None:
        assert file not in path, " -> ".join((*path[path.index(file) :], file))
        if file in done:
            return
        for imported in sorted(below.get(file, ())):
            visit(imported, (*path, file))
        done.add(file)

    for file in files():
        visit(file, ())


def functions_that_return_any() -> Iterator[str]:
    """Yield the functions whose result is a module that they import: their type hides the import."""
    for file in files():
        for node in ast.walk(ast.parse((UTILS / f"{file}.py").read_text())):
            if (
                not isinstance(node, ast.FunctionDef)
                or not isinstance(node.returns, ast.Name)
                or node.returns.id != "Any"
            ):
                continue
            bound = {
                alias.asname or alias.name
                for part in node.body
                if isinstance(part, ast.ImportFrom)
                for alias in part.names
            }
            last = node.body[-1]
            if isinstance(last, ast.Return) and isinstance(last.value, ast.Name) and last.value.id in bound:
                yield f"{file}.py:{node.lineno} {node.name}"


def test_no_function_returns_any_to_hide_an_import():
    assert list(functions_that_return_any()) == []


@pytest.mark.parametrize("path", sorted((PLUGINS / "modules").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_is_documentation_a_specification_and_a_dozen_lines(path):
    """The logic lives in a package, where a test reaches it without Ansible."""
    tree = ast.parse(path.read_text())
    bodies = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    lines = 0
    for node in bodies:
        spec = sum(
            keyword.value.end_lineno - keyword.value.lineno + 1
            for call in ast.walk(node)
            if isinstance(call, ast.Call)
            for keyword in call.keywords
            if keyword.arg == "argument_spec"
        )
        lines += node.end_lineno - node.lineno + 1 - spec
    assert lines <= 40, f"{path.name} has {lines} lines of code"
