# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host is and lacks, as Ansible asks for it: the result, and what the engine was asked."""

from __future__ import annotations

import os

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._docker import engine
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import runner_host_info

INFO = {
    "ServerVersion": "26.1.5",
    "Images": 2,
    "Containers": 1,
    "ContainersRunning": 1,
    "DockerRootDir": "/var/lib/docker",
    "DriverStatus": [["Backing Filesystem", "extfs"]],
}


@pytest.fixture
def asked(monkeypatch):
    """A running engine with two images; what it was asked for."""
    urls = []
    answers = {"/info": INFO, "/images/json": [{"RepoTags": ["b:1"]}, {"RepoTags": ["a:1", "<none>:<none>"]}, {}]}

    def ask(url, kind, **_unused):
        urls.append(url)
        return answers[url]

    monkeypatch.setattr(engine, "_ask", ask)
    monkeypatch.setattr(engine, "unit", lambda: engine.Unit(installed=True, active=True, enabled=True, pid=1))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return urls


def test_a_host_is_told_in_one_look(asked, run_module):
    told = run_module(runner_host_info, {"packages": ["no-such-package"]})
    assert not told.failed
    assert (told["changed"], told["packages"], told["uid"]) == (False, {"no-such-package": ""}, 0)
    assert told["docker"] == {
        "installed": True,
        "running": True,
        "enabled": True,
        "version": "26.1.5",
        "containers": 1,
        "containers_running": 1,
        "images": 2,
        "containerd_store": False,
        "data_root": "/var/lib/docker",
    }
    assert "2 images (a:1, b:1) and 1 containers" in told["problems"]["image_store"]
    assert asked == ["/info", "/images/json"]


def test_what_is_required_and_lacks_fails_with_all_that_lacks(asked, run_module):
    failed = run_module(runner_host_info, {"require": ["image_store", "disk"], "min_free_gib": 10**8})
    assert failed["msg"].startswith("this host cannot become what is declared: this engine holds 2 images")
    assert "GiB are free at" in failed["msg"]
    assert failed["msg"].endswith("nothing was changed")
    assert "docker" not in failed  # the facts, which would hide the words, only at -v


def test_an_engine_that_does_not_answer_is_told(asked, run_module, monkeypatch):
    def ask(url, kind, **_unused):
        raise Problem(
            "the Docker engine at /run/docker.sock does not answer within 20 s", "look at: journalctl -u docker"
        )

    monkeypatch.setattr(engine, "_ask", ask)
    assert "does not answer within 20 s" in run_module(runner_host_info, {})["msg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disk_path": "/var/a\0b"}, "disk_path has a NUL character"),
        ({"min_free_gib": 1e300}, "min_free_gib is 1e+300, which is too large"),
    ],
)
def test_what_no_host_has_is_refused(asked, run_module, options, message):
    assert message in run_module(runner_host_info, options)["msg"]
    assert asked == []
