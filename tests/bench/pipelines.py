# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pipelines into bare repositories on this machine, unchanged and changed, against git alone: `pipelines.py [COUNT]` (300).

git's own time is what the shortest script takes that makes the same commits: clone without a work tree, fast-import and
push, as many at a time as the module.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.results import Results

ROOT = Path(__file__).resolve().parents[2]
AT_A_TIME = 4
MODULE = "ansible_collections.multiarch.drone.plugins.modules.drone_pipeline"
THEIRS = "# theirs\nkind: pipeline\nname: default\n\nsteps:\n  - name: test\n    image: golang\n    commands: [go test ./...]\n"


def git(*arguments: object, stdin: bytes | None = None) -> None:
    subprocess.run(["git", *map(str, arguments)], input=stdin, check=True, capture_output=True)


def fill(path: Path) -> None:
    """Make a bare repository with one commit."""
    git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", path)
    text = THEIRS.encode()
    head = b"commit refs/heads/main\ncommitter a <a@b> now\ndata 1\nx\nM 100644 inline .drone.yml\n"
    git("-C", path, "fast-import", "--quiet", "--date-format=now", stdin=head + f"data {len(text)}\n".encode() + text)


def module(paths: list[Path], tag: str) -> tuple[float, dict[str, object]]:
    """Run the module as Ansible does, in a process of its own; return the seconds it took, and its result."""
    pipeline = {"repo": "octocat/example", "tags": [tag], "platforms": ["linux/amd64", "linux/arm64"]}
    repos = [{"url": str(path)} for path in paths]
    arguments = {"repos": repos, "pipeline": pipeline, "at_a_time": AT_A_TIME, "_ansible_diff": False}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode(),
        env={**os.environ, "PYTHONPATH": str(ROOT / "build/collections")},
        capture_output=True,
        check=False,
    )
    seconds = time.monotonic() - start
    result = json.loads(done.stdout or b"{}")
    if done.returncode or result.get("failed"):
        sys.exit(done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:])
    return seconds, result


def by_git(paths: list[Path], text: str) -> float:
    """Commit a text to each repository with git alone; return the seconds it took."""

    def one(path: Path) -> None:
        with tempfile.TemporaryDirectory() as clone:
            git("clone", "--quiet", "--bare", "--shared", "--single-branch", "--no-tags", "--template=", path, clone)
            data = text.encode()
            head = b"commit refs/heads/main\ncommitter a <a@b> now\ndata 1\nx\nfrom refs/heads/main^0\nM 100644 inline .drone.yml\n"
            git(
                "--git-dir",
                clone,
                "fast-import",
                "--quiet",
                "--date-format=now",
                stdin=head + f"data {len(data)}\n".encode() + data,
            )
            git("--git-dir", clone, "push", "--quiet", path, "main")

    start = time.monotonic()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(one, paths))
    return time.monotonic() - start


def main() -> int:
    results = Results("pipelines")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"octocat/app-{number:04}.git" for number in range(count)]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(fill, paths))
        changed, exclusive_lock = [], []
        for number in range(3):  # in turn, since the machine's speed drifts
            seconds, result = module(paths, f"v{number}")
            assert len(result["repos"]) == count  # type: ignore[arg-type]
            assert result["changed"]
            changed.append(seconds)
            exclusive_lock.append(by_git(paths, f"{THEIRS}# {number}\n"))
        module(paths, "last")
        unchanged = []
        for _round in range(3):
            seconds, result = module(paths, "last")
            assert not result["changed"]
            unchanged.append(seconds)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(changed, exclusive_lock))
    results.told(f"{count} pipelines, unchanged: each", statistics.median(unchanged) / count * 1000, 20, "ms")
    results.told(f"{count} pipelines, changed: each", statistics.median(changed) / count * 1000, None, "ms")
    results.told(f"{count} pipelines, changed / git alone", ratio, 1.3)
    return results.end()


if __name__ == "__main__":
    sys.exit(main())
