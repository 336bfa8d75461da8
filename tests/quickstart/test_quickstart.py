# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`make quickstart` as a newcomer types it, twice."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = {"linux/amd64": "x86_64", "linux/arm64": "aarch64", "linux/arm/v7": "armv7l", "linux/s390x": "s390x"}


def quickstart(*more: str) -> str:
    ran = subprocess.run(
        ["make", "quickstart", *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def changed(said: str) -> dict[str, int]:
    recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", said, re.MULTILINE)
    return {host: int(count) for host, count in recap}


@pytest.fixture(scope="module")
def runs():
    first = quickstart()
    return first, quickstart()


def test_the_second_run_changes_nothing_on_any_host(runs):
    assert changed(runs[1]) == {"localhost": 0, "quickstart-1": 0, "quickstart-2": 0}


def test_the_table_shows_what_each_host_executed_for_each_platform(runs):
    for host in ("quickstart-1", "quickstart-2"):
        row = next(line for line in runs[1].splitlines() if f'"{host} ' in line)
        assert "x86_64, native" in row
        for machine in ("aarch64", "armv7l", "s390x"):
            assert re.search(rf"{machine}, QEMU \d+\.\d+", row)


def test_the_report_for_a_browser_is_self_contained_and_names_every_platform(runs):
    html = (ROOT / "build/quickstart/report.html").read_text()
    assert not re.search(r"""(src|href)=["']?https?:""", html)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    for platform, machine in PLATFORMS.items():
        assert platform in html
        assert machine in html
    assert re.search(r"sha256:[0-9a-f]{64}", html)


def test_the_runners_reached_their_server_and_the_deployed_step_built_every_platform(runs):
    """A step that does not build fails the play; what the registry then has is what this line tells."""
    shown = runs[1]
    assert "runners quickstart-1, quickstart-2 reach it" in shown
    assert "octocat/app1 trusted" in shown
    assert "its step executed as the runner would: registry.lab:5000/octocat/app1:latest" in shown
    assert f'"{", ".join(PLATFORMS)}."' in shown
    assert "thegeeklab/drone-docker-buildx:23" in (ROOT / "build/quickstart/report.html").read_text()


def test_runners_that_change_drain_one_host_after_the_other(runs):
    again = quickstart("ARGS=-e drone_runner_capacity=3")
    assert changed(again) == {"localhost": 0, "quickstart-1": 1, "quickstart-2": 1}
    (_begun, back), (next_begun, _back) = sorted(map(without_runner, ("quickstart-1", "quickstart-2")))
    assert back <= next_begun


def without_runner(host: str) -> tuple[int, int]:
    """Return from when to when the runner of a host took no builds, in microseconds of the clock that all hosts share."""
    properties = ("ActiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    show = ["docker", "exec", host, "systemctl", "show", "drone-runner", f"--property={','.join(properties)}"]
    said = dict(line.split("=") for line in subprocess.check_output(show, text=True).split())
    begun, back = (int(said[name]) for name in properties)
    assert begun < back
    return begun, back
