# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the benches measure: printed beside what was measured last, judged by its limit, and kept as JSON in build/bench/results.json.

A busy machine measures itself: where something else is at work when a bench begins or ends, its numbers are told, kept as
such, and not judged.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

ROOT = Path(os.path.abspath(__file__)).parents[3]
FILE = ROOT / "build/bench/results.json"
BUSY = 0.3  # the part of all CPUs' time that something else may take
KEPT = 50  # runs of each bench
UNJUDGED = 3  # the exit code of a bench that nobody can judge


def cpu_times() -> tuple[int, int]:
    """Return the idle time and all time of the CPUs, in ticks (proc(5))."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def busy(seconds: float = 2) -> float:
    """Return which part of the CPUs' time is taken just now; the load average would still tell of the bench before."""
    idle, whole = cpu_times()
    time.sleep(seconds)
    idle_now, whole_now = cpu_times()
    return 1 - (idle_now - idle) / max(1, whole_now - whole)


class Results:
    """The numbers of one bench."""

    def __init__(self, bench: str, file: Path = FILE, look: Callable[[], float] = busy) -> None:
        self.bench, self.file, self._look = bench, file, look
        self.rows: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        if file.exists():
            self.history = json.loads(file.read_text())
        judged = [run for run in self.history.get(bench, []) if run["judged"]]
        self.last = judged[-1] if judged else {"rows": {}, "commit": ""}
        self.load = [look()]
        if not self.is_quiet:
            print(f"{self._words()}: what follows is not judged", flush=True)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing else was at work when it was looked at."""
        return max(self.load) <= BUSY

    def _words(self) -> str:
        return f"other processes take {max(self.load):.0%} of this machine's CPUs (at most {BUSY:.0%})"

    def told(
        self, what: str, value: float, limit: float | None = None, unit: str = "x", *, least: bool = False
    ) -> bool:
        """Print one number and keep it; say whether it is over its limit, or with `least` under it."""
        over = limit is not None and (value < limit if least else value > limit)
        self.rows[what] = {"value": round(value, 4), "limit": limit, "least": least, "unit": unit, "over": over}
        words = f"{what}: {value:.2f} {unit}"
        if limit is not None:
            words += f" ({'at least' if least else 'at most'} {limit:g}"
            words += f": {'under' if least else 'over'})" if over and self.is_quiet else ")"
        before = self.last["rows"].get(what)
        if before:
            words += f", last {before['value']:.2f} at {self.last['commit'][:10]}"
        print(words, flush=True)
        return over

    def end(self) -> int:
        """Keep the numbers, and return the exit code: how many are over, or that nothing can be judged."""
        self.load.append(self._look())
        run = {
            "commit": _said("git", "-C", str(ROOT), "rev-parse", "HEAD"),
            "changed": bool(_said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")),
            "machine": {"cpus": os.cpu_count(), "cpu": _cpu(), "kernel": platform.release(), "memory_mb": _memory()},
            "load": {"busy": [round(part, 3) for part in self.load], "average": os.getloadavg()},
            "time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "judged": self.is_quiet,
            "rows": self.rows,
        }
        self.history[self.bench] = [*self.history.get(self.bench, []), run][-KEPT:]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(self.history, indent=1) + "\n")
        os.replace(temporary, self.file)
        if not self.is_quiet:
            print(f"{self._words()}: nothing is judged; run it again on a quiet machine", flush=True)
            return UNJUDGED
        return min(2, sum(row["over"] for row in self.rows.values()))


def _said(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
