# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""No token and no secret value appears anywhere: output at -vvvv, diff, log file, exceptions, temporary files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "leaky-token-0123456789"
VALUE = "leaky-value-of-a-secret"
HIDDEN = ("leaky-token", "leaky-value")


@pytest.fixture
def server(monkeypatch):
    with DroneServer(tokens={"octocat": TOKEN}) as running:
        yield running


@pytest.fixture
def folder():
    """A directory with a short name: ansible-core 2.21 makes a socket below it, whose path has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="leaks-") as name:
        yield Path(name)


@pytest.fixture
def play(folder, server):
    """Run tasks with -vvvv --diff, and return what they printed, with all files that they left behind."""

    def run(*tasks, token=TOKEN, environment=(), **variables):
        file = folder / "given/play.yml"
        file.parent.mkdir(exist_ok=True)
        access = {"drone_url": server.url, "drone_token": "{{ token }}"}
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "ignore_errors": True}
        play["module_defaults"] = {"group/multiarch.drone.drone": access}
        file.write_text(json.dumps([{**play, "tasks": [{"vars": {}, **task} for task in tasks]}]))
        given = folder / "given/variables.json"
        given.write_text(json.dumps({"token": token, **variables}))
        left = {name: str(folder / "left" / name) for name in ("home", "tmp", "local", "remote")}
        for path in left.values():
            Path(path).mkdir(parents=True, exist_ok=True)
        ran = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-vvvv", "--diff", "-e", f"@{given}", file],
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "HOME": left["home"],
                "TMPDIR": left["tmp"],
                "ANSIBLE_LOCAL_TEMP": left["local"],
                "ANSIBLE_REMOTE_TEMP": left["remote"],
                "ANSIBLE_LOG_PATH": str(folder / "left/log"),
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
                **dict(environment),
            },
        )
        return ran.stdout + ran.stderr, [path for path in (folder / "left").rglob("*") if path.is_file()]

    return run


def leaks(output, files):
    """Return where a hidden word shows: the line of the output, or the file."""
    lines = [line for line in output.splitlines() if any(word in line for word in HIDDEN)]
    return lines + [str(path) for path in files if any(word.encode() in path.read_bytes() for word in HIDDEN)]


def module(name, **arguments):
    return {f"multiarch.drone.{name}": arguments}


def test_the_search_finds_what_a_careless_task_prints_and_leaves(play):
    output, files = play({"ansible.builtin.debug": {"msg": "{{ token }}"}})
    assert TOKEN in " ".join(leaks(output, files))
    assert any(leak.endswith("/left/log") for leak in leaks(output, files))


def test_nothing_leaks_from_what_works_with_a_token_of_the_play_or_of_the_environment(play, server):
    output, files = play(
        module("drone_repo_trust", repos=["octocat/*"], activate=True),
        module("drone_repo", repos=[{"slug": "octocat/app1", "timeout": 61}]),
        module("drone_repo_info", drone_url="{{ omit }}", drone_token="{{ omit }}"),
        environment={"DRONE_SERVER": server.url, "DRONE_TOKEN": TOKEN},
    )
    assert "octocat/app1: trust" in output
    assert "ok=3" in output
    assert "ignored=0" in output
    assert leaks(output, files) == []


def test_nothing_leaks_from_what_goes_wrong(play, server):
    # A server that says back what it got, and a redirect with a password; the revoked token asks before them.
    server.faults.add(path="/api/user", skip=1, status=400, message=f"malformed header: Bearer {TOKEN}")
    server.faults.add(path="/api/user", skip=1, kind="redirect", location="https://leaky-value@login.example.com/")
    output, files = play(
        module("drone_repo_info", drone_token="leaky-token-that-is-revoked"),
        module("drone_repo_info", drone_token="leaky-token\nof two lines"),
        module("drone_repo_info", drone_token="leaky-token is none"),
        module("drone_repo_info"),
        module("drone_repo_info"),
    )
    for words in (
        "does not know the token",
        "has a character that no token has",
        "malformed header",
        "which is not a valid address",
    ):
        assert words in output
    assert "ignored=5" in output
    assert leaks(output, files) == []


def test_nothing_leaks_from_secrets_and_machine_accounts(play, server, folder):
    secrets = [
        {"repo": "octocat/app1", "name": "password", "value": VALUE},
        {"namespace": "octocat", "name": "key", "value": VALUE},
    ]
    server.faults.add(method="POST", path="*/secrets", status=400, message=f"cannot store {VALUE}")
    output, files = play(
        module("drone_secret", secrets="{{ secrets }}"),  # the server says the value back
        module("drone_secret", secrets="{{ secrets }}"),
        module(
            "drone_secret", secrets="{{ secrets }}", update="changed", fingerprints=str(folder / "left/fingerprints")
        ),
        module("drone_secret", secrets="{{ secrets }}", update="always"),
        module("drone_secret", secrets=[{"repo": "octocat/app1", "name": "a/b", "value": "{{ value }}"}]),
        module("drone_secret", secrets=["{{ value }}"]),
        module("drone_user", users=[{"login": "bot", "machine": True, "token": "{{ value }}"}]),
        {
            "ansible.builtin.include_role": {"name": "multiarch.drone.drone_repos"},
            "vars": {
                "drone_repos_url": server.url,
                "drone_repos_token": "{{ token }}",
                "drone_repos_users": [{"login": "deployer", "machine": True}],
                "drone_repos_secrets": "{{ secrets }}",
            },
        },
        secrets=secrets,
        value=VALUE,
    )
    assert "cannot store" in output
    assert "octocat/app1" in output
    assert "ignored=3" in output
    made = [token for login, token in server.tokens.items() if login == "deployer"]
    assert made
    assert leaks(output, files) == []
    assert made[0] not in output


def test_nothing_leaks_from_a_module_that_crashes(play, server):
    server.state.repos._rows[0] = None  # the server answers what no Drone does: not at all, or with a 500
    output, files = play(module("drone_repo_trust", repos=["octocat/*"]))
    assert "ignored=1" in output
    assert leaks(output, files) == []
