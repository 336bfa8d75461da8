# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report as a playbook of its own, and at the end of verify.yml and site.yml: which hosts, Drone and pipelines are in it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer

HERE = "ansible_connection=local ansible_python_interpreter={{ansible_playbook_python}}"
NOWHERE = "ansible_host=127.0.0.1 ansible_port=1"


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "inventory"
    path.write_text(f"localhost {HERE}\n[runners]\nhere {HERE}\nnowhere {NOWHERE}\n")
    return path


@pytest.fixture
def run(ansible, tmp_path, inventory):
    """Run a playbook on the inventory; return how it went, and the report as data."""

    def run(playbook, *arguments, **variables):
        report = tmp_path / "report"
        given = {"report_dir": str(report), "qemu_platforms": ["linux/mips"], "ansible_become": False, **variables}
        name = playbook if isinstance(playbook, Path) else f"multiarch.drone.{playbook}"
        ran = ansible("ansible-playbook", name, "-i", inventory, "-e", json.dumps(given), *arguments)
        path = report / "report.json"
        return ran, json.loads(path.read_text()) if path.exists() else None

    return run


@pytest.fixture
def drone(tmp_path):
    slugs = ("octocat/app", "octocat/other")
    with DroneServer(tokens={"octocat": "a-token-that-is-long-enough"}, repos=slugs) as server:
        repository = tmp_path / "git/octocat/app.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", repository], check=True)
        yield {
            "drone_repos_url": server.url,
            "drone_repos_token": "a-token-that-is-long-enough",
            "drone_pipelines_pipelines": [
                {
                    "repos": [{"url": str(repository)}],
                    "pipeline": {"repo": "octocat/app", "strategy": "remote", "platforms": ["linux/amd64"], "username": {"from_secret": "user"}, "password": {"from_secret": "word"}, "builders": [{"endpoint": "tcp://b:1234"}]},
                }
            ],
        }  # fmt: skip


def subjects(report, layer):
    return sorted(row["subject"] for row in report["findings"] if row["layer"] == layer)


@pytest.mark.parametrize("playbook", ["report", "verify"])
def test_a_host_that_cannot_be_reached_is_in_the_report_and_the_others_are_looked_at(run, playbook):
    ran, report = run(playbook)
    assert [host["name"] for host in report["hosts"]] == ["here", "nowhere"], ran.shown
    assert subjects(report, "host") == ["nowhere"]
    assert subjects(report, "qemu") == ["here"]
    assert "report.html" in ran.shown


def test_verify_writes_its_report_before_it_fails_and_leaves_it_out_where_it_is_not_wanted(run, tmp_path):
    ran, report = run("verify", "--limit", "here,localhost")
    assert ran.code == 2, ran.shown
    assert "not as promised, for the reasons above: " in ran.shown
    assert [host["name"] for host in report["hosts"]] == ["here"]
    assert report["summary"]["broken"] > 0
    (tmp_path / "report/report.json").unlink()
    ran, report = run("verify", "--limit", "here,localhost", report="false")
    assert report is None


def test_a_report_that_cannot_be_written_fails_its_own_playbook_and_no_other(run, tmp_path):
    (tmp_path / "file").write_text("")
    for playbook, code in (("report", 2), ("verify", 2)):
        ran, _none = run(playbook, "--limit", "here,localhost", report_dir=str(tmp_path / "file/report"))
        assert ran.code == code
        assert ("The report could not be written: " in ran.shown) == (playbook == "verify"), ran.shown
        assert ("not as promised" in ran.shown) == (playbook == "verify"), ran.shown


def test_a_limit_is_what_the_report_is_about(run):
    ran, report = run("report", "--limit", "here,localhost")
    assert [host["name"] for host in report["hosts"]] == ["here"]
    assert ran.code == 0, ran.shown


def test_secrets_that_a_pipeline_takes_and_nobody_has_are_told(run, drone, tmp_path):
    ran, report = run("report", "--limit", "here,localhost", **drone)
    assert report is not None, ran.shown
    (row,) = report["pipelines"]
    assert row["missing_secrets"] == ["buildkit_ca", "buildkit_cert", "buildkit_key", "user", "word"], ran.shown
    assert row["changed"]
    secrets = [{"repo": "octocat/app", "name": name, "value": "v"} for name in ("word", "buildkit_ca", "buildkit_cert")]
    secrets += [{"namespace": "octocat", "name": name, "value": "v"} for name in ("user", "buildkit_key")]
    # As site.yml, without what takes a host that can become a runner.
    parts = ("drone_state", "deploy_pipelines", "verify")
    site = tmp_path / "site.yml"
    site.write_text("".join(f"- import_playbook: multiarch.drone.{part}\n" for part in parts))
    ran, report = run(site, "--limit", "here,localhost", drone_repos_secrets=secrets, **drone)
    (row,) = report["pipelines"]
    assert row["commit"], ran.shown
    assert not row["changed"]
    assert not row["missing_secrets"]
    absent = [{"namespace": "octocat", "name": "user", "state": "absent"}]
    ran, _report = run("drone_state", drone_repos_secrets=absent, **drone)
    assert ran.code == 0, ran.shown
    ran, report = run("report", "--limit", "here,localhost", **drone)
    (row,) = report["pipelines"]
    assert row["missing_secrets"] == ["user"], ran.shown
    assert row["commit"]
