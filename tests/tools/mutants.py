# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many small changes of the code the unit tests notice: `mutants.py [--sample N] [--seed N] [--package NAME]`.

Of each package of plugins/module_utils a seeded sample of mutants is tried: a condition is turned round, a call is left out, an
`and` becomes an `or`, a number grows by one. A mutant that no test notices is printed, for a person to judge: a test is missing, or
the change has no meaning. Mutants are made in a copy, never in the checkout.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build/mutants"
TREE = WORK / "ansible_collections/multiarch/drone"
# A mutant may wait for ever: that is noticed, too.
SECONDS = 300
GOAL = 85

TURNED = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    """Yield each mutant of a file: its line, what changed, and the changed tree."""
    nodes = list(ast.walk(tree))
    for index, node in enumerate(nodes):
        for what, change in _changes(node):
            other = copy.deepcopy(tree)
            twin = list(ast.walk(other))[index]
            change(twin)
            yield getattr(node, "lineno", 0), what, ast.fix_missing_locations(other)


def _changes(node: ast.AST):
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in TURNED:
        yield f"{ast.unparse(node)} turned round", lambda twin: twin.ops.__setitem__(0, TURNED[type(twin.ops[0])]())
    if isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"{ast.unparse(node)} with {other.__name__.lower()}", lambda twin: setattr(twin, "op", other())
    if isinstance(node, (ast.If, ast.IfExp)) and not _of_types(node.test):
        yield (
            f"if not {ast.unparse(node.test)}",
            lambda twin: setattr(twin, "test", ast.UnaryOp(ast.Not(), twin.test)),
        )
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield f"without {ast.unparse(node)}", lambda twin: setattr(twin, "value", ast.Constant(None))
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield f"{node.value + 1} for {node.value}", lambda twin: setattr(twin, "value", twin.value + 1)


def _of_types(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def noticed(package: str, path: Path, tree: ast.Module) -> bool:
    """Say whether the tests of a package fail with a mutant in place of its file."""
    target = TREE / path
    whole = target.read_text()
    target.write_text(ast.unparse(tree))
    tests = [f"tests/unit/plugins/module_utils/{package}" if package else "tests/unit/plugins/module_utils"]
    tests += ["tests/unit/plugins/modules"]
    try:
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-n",
                "2",
                *[test for test in tests if (TREE / test).exists()],
            ],
            cwd=TREE,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(WORK), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
        return ran.returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        target.write_text(whole)


def main() -> int:
    """Try the mutants, print what nobody noticed, and return whether enough were noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--package", help="only this one, such as _binfmt")
    options = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    TREE.mkdir(parents=True)
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, names):
        (TREE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, TREE / name)
    by_package: dict[str, list[Path]] = {}
    for path in sorted((TREE / "plugins/module_utils").rglob("*.py")):
        inner = path.relative_to(TREE)
        by_package.setdefault(inner.parts[2] if len(inner.parts) == 4 else "", []).append(inner)
    enough = True
    for package, paths in sorted(by_package.items()):
        if options.package is not None and package != options.package:
            continue
        every = [
            (path, *mutant)
            for path in paths
            for mutant in mutants(ast.parse((TREE / path).read_text(encoding="utf-8")))
        ]
        sample = random.Random(f"{options.seed} {package}").sample(every, min(options.sample, len(every)))
        missed = [(path, line, what) for path, line, what, tree in sample if not noticed(package, path, tree)]
        share = 100 * (len(sample) - len(missed)) // max(len(sample), 1)
        enough &= share >= GOAL
        print(f"{package or 'flat':12} {len(sample) - len(missed)} of {len(sample)} noticed ({share} %)", flush=True)
        for path, line, what in missed:
            print(f"    {path}:{line}: {what}", flush=True)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
