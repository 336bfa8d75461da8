# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What make bench keeps and prints of its numbers, and when it refuses to judge them."""

from __future__ import annotations

import json

from ansible_collections.multiarch.drone.tests.bench.results import UNJUDGED, Results


def run(file, *values, load=0.1, limit=2.0, least=False):
    loads = iter(load if isinstance(load, tuple) else (load, load))
    results = Results("one", file, lambda: next(loads))
    for number, value in enumerate(values):
        results.told(f"row {number}", value, limit, least=least)
    return results.end()


def test_what_is_over_its_limit_is_counted_and_said(tmp_path, capsys):
    assert run(tmp_path / "results.json", 1.5, 2.5) == 1
    shown = capsys.readouterr().out
    assert "row 0: 1.50 x (at most 2)\n" in shown
    assert "row 1: 2.50 x (at most 2: over)\n" in shown
    assert run(tmp_path / "results.json", 1.5, least=True) == 1
    assert "row 0: 1.50 x (at least 2: under)" in capsys.readouterr().out


def test_runs_are_kept_with_commit_machine_and_load_and_the_last_is_printed_beside(tmp_path, capsys):
    file = tmp_path / "build/results.json"
    assert run(file, 1.5) == 0
    assert "last" not in capsys.readouterr().out
    assert run(file, 1.6) == 0
    assert "row 0: 1.60 x (at most 2), last 1.50 at " in capsys.readouterr().out
    first, second = json.loads(file.read_text())["one"]
    assert first["rows"]["row 0"] == {"value": 1.5, "limit": 2.0, "least": False, "unit": "x", "over": False}
    assert second["machine"]["cpus"] > 0
    assert second["load"]["busy"] == [0.1, 0.1]
    assert len(second["load"]["average"]) == 3
    assert {"commit", "changed", "time"} <= set(second)


def test_on_a_machine_that_is_busy_nothing_is_judged(tmp_path, capsys):
    file = tmp_path / "results.json"
    run(file, 1.5)
    for load in ((0.9, 0.0), (0.0, 0.9)):
        assert run(file, 9.0, load=load) == UNJUDGED
        shown = capsys.readouterr().out
        assert "other processes take 90% of this machine's CPUs (at most 30%): nothing is judged" in shown
    runs = json.loads(file.read_text())["one"]
    assert [one["judged"] for one in runs] == [True, False, False]
    # The numbers of a busy machine are no measure for the next ones.
    run(file, 1.7)
    assert "last 1.50" in capsys.readouterr().out
