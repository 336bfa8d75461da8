# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A build context's digest against sha256sum of the same files: `context.py [MIB]` (1024); fails below half its speed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build/collections"))

from ansible_collections.multiarch.drone.plugins.module_utils._image.context import digest_tree, read_ignore

from tests.bench.results import Results

WANTED = 0.5


def seconds(work):
    """Return the best of three: the files are in the page cache, and the machine has others to serve."""
    best = float("inf")
    for _unused in range(3):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> int:
    results = Results("context")
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    with tempfile.TemporaryDirectory() as folder:
        for number in range(16):
            block = os.urandom(1 << 20)
            Path(folder, str(number)).write_bytes(block * (size // 16))
        files = sorted(map(str, Path(folder).iterdir()))
        ours = seconds(lambda: digest_tree(folder, read_ignore(folder)))
        theirs = seconds(lambda: subprocess.run(["sha256sum", *files], stdout=subprocess.DEVNULL, check=True))
    results.told(f"context of {size} MiB", size / ours, None, "MiB/s")
    results.told("sha256sum of the same files", size / theirs, None, "MiB/s")
    results.told("context / sha256sum", theirs / ours, WANTED, least=True)
    return results.end()


if __name__ == "__main__":
    sys.exit(main())
