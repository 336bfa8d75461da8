# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Role drone_repos applies the example's state file, with the example's vault, to a server; and finds nothing left to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "playbooks/examples"
TOKEN = "0123456789abcdef0123456789abcdef"  # the example's vault has it
REPOS = ("octocat/hello-world", "octocat/base-images", "octocat/retired", "octocat/other", "platform/a")


@pytest.fixture
def server():
    with DroneServer(tokens={"octocat": TOKEN}, repos=REPOS[:4]) as running:
        running.add_repo("platform/a", octocat="admin")
        yield running


@pytest.fixture
def apply(tmp_path, server, ansible):
    """Run a playbook with the example's files; return its output, its return code and how many tasks changed something."""
    (tmp_path / "password").write_text("example\n")
    (tmp_path / "inventory").write_text(
        "runner-1 ansible_host=unreachable.invalid\nrunner-2 ansible_host=unreachable.invalid\n"
    )

    def run(*arguments, playbook="multiarch.drone.drone_state"):
        return ansible(
            *("ansible-playbook", playbook, "--diff"),
            *("-e", f"@{EXAMPLES}/drone.yml", "-e", f"@{EXAMPLES}/vault", "-e", f"drone_repos_url={server.url}"),
            *("--vault-password-file", tmp_path / "password", "-i", tmp_path / "inventory", *arguments),
        )

    return run


def test_check_reports_the_drift_the_run_mends_it_and_a_second_run_changes_nothing(apply, server):
    server.forget_requests()
    shown, code, changed = apply("--check")
    assert (code, changed) == (0, 6), shown
    assert server.changes == []
    shown, code, changed = apply()
    assert (code, changed) == (0, 6), shown
    trusted = {slug for slug in REPOS if server.repo(slug)["trusted"]}
    assert trusted == {"octocat/base-images", "platform/a"}
    assert server.repo("octocat/base-images")["config_path"] == ".drone/images.yml"
    assert server.repo("octocat/hello-world")["timeout"] == 90
    server.forget_requests()
    shown, code, changed = apply()
    assert (code, changed) == (0, 0), shown
    assert server.changes == []
    # A handful of tasks; one for the argument specification.
    assert shown.count("TASK [") <= 7
    assert "not-a-real" not in shown


def test_the_trust_runs_alone_takes_back_what_nobody_listed_and_runs_once_for_a_whole_inventory(
    apply, server, tmp_path
):
    server.state.repos.update(_trusted(server, "octocat/other"))
    server.forget_requests()
    shown, code, _changed = apply(playbook="multiarch.drone.trust_repos")
    assert code == 0, shown
    assert sorted(server.changes) == [
        "PATCH /api/repos/octocat/base-images",
        "PATCH /api/repos/octocat/other",
        "PATCH /api/repos/platform/a",
    ]
    fleet = tmp_path / "fleet.yml"
    play = {"hosts": "all", "gather_facts": False, "roles": [{"role": "multiarch.drone.drone_repos"}]}
    fleet.write_text(yaml.safe_dump([play]))
    server.forget_requests()
    shown, code, changed = apply("--tags", "drone_trust", playbook=fleet)
    assert (code, changed) == (0, 0), shown
    assert len([seen for seen in server.requests if seen.path == "/api/user"]) == 1


def test_a_list_from_the_command_line_is_one(apply, server):
    given = ("-e", "drone_repos_trusted=octocat/other,platform/a", "-e", '{"drone_repos_exclusive": []}')
    shown, code, _changed = apply(*given, playbook="multiarch.drone.trust_repos")
    assert code == 0, shown
    trusted = {slug for slug in REPOS if server.repo(slug)["trusted"]}
    assert trusted >= {"octocat/other", "platform/a"}


def test_absent_takes_away_what_the_file_names_and_leaves_the_rest(apply, server):
    server.state.repos.update(_trusted(server, "octocat/other"))
    apply("-e", '{"drone_repos_exclusive": []}')
    shown, code, changed = apply("-e", "drone_repos_state=absent")
    assert (code, changed) == (0, 6), shown
    assert not any(server.repo(slug)["active"] for slug in REPOS)
    assert [slug for slug in REPOS if server.repo(slug)["trusted"]] == ["octocat/other"]
    shown, code, changed = apply("-e", "drone_repos_state=absent")
    assert (code, changed) == (0, 0), shown


def _trusted(server, slug):
    from dataclasses import replace

    namespace, name = slug.split("/")
    return replace(server.state.repo(namespace, name), trusted=True)
