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


def quickstart() -> str:
    ran = subprocess.run(
        ["make", "quickstart"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


@pytest.fixture(scope="module")
def runs():
    first = quickstart()
    return first, quickstart()


def test_the_second_run_changes_nothing_on_any_host(runs):
    recap = dict(re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", runs[1], re.MULTILINE))
    assert recap == {"localhost": "0", "quickstart-1": "0", "quickstart-2": "0"}


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
