# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a play shows while a module takes long: over a local connection and Ansible's own ssh, and what it does not show."""

from __future__ import annotations

import json
import os
import re
import stat

import pytest

SECRET = "hunter2-is-a-secret"
# Docker as a build that says what it does, and goes on until the test's file is there, or for some seconds.
DOCKER = """#!/bin/sh
case "$*" in *" build "*) ;; *) exit 0 ;; esac
echo "#1 [internal] load build definition from Dockerfile" >&2
echo "#1 DONE 0.0s" >&2
echo "#7 [linux/s390x 4/7] RUN make TOKEN={secret}" >&2
echo "#7 0.100 what a step prints: never-shown" >&2
sleep {seconds}
"""
# Ansible's ssh plugin starts it as it starts ssh; the last word is what a host's shell would get.
SSH = """#!/bin/sh
echo asked >> {log}
for word; do :; done
exec /bin/sh -c "$word"
"""


@pytest.fixture
def play(ansible, tmp_path):
    """Run buildx_image on two hosts; return what was shown."""

    def program(name, text):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def run(connection, *arguments, seconds=5, task=None, **variables):
        context = tmp_path / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text("FROM scratch\n")
        docker = program("docker", DOCKER.format(secret=SECRET, seconds=seconds))
        ssh = program("ssh", SSH.format(log=tmp_path / "asked"))
        inventory = tmp_path / "inventory"
        # Below the directory of the test: the longest path that a control socket may have is short.
        inventory.write_text(
            f"[all:vars]\nansible_connection={connection}\nansible_ssh_executable={ssh}\nansible_pipelining=true\n"
            "ansible_python_interpreter={{ansible_playbook_python}}\n[all]\nb-2\na-1\n"
        )
        options = {
            "context": str(context),
            "outputs": [f"type=local,dest={tmp_path}/out"],
            "build_args": {"TOKEN": SECRET},
            "docker_cli": str(docker),
            "push": False,
        }
        tasks = [{"name": "Build", "multiarch.drone.buildx_image": options, **(task or {})}]
        (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        given = {"multiarch_progress": 1, **variables}
        ran = ansible("ansible-playbook", "-i", inventory, tmp_path / "play.yml", "-e", json.dumps(given), *arguments)
        assert SECRET not in ran.shown
        assert not any("never-shown" in line for line in lines(ran))
        return ran

    return run


def lines(ran):
    return re.findall(r"^\[(?:a-1|b-2)\] .*$", ran.shown, re.MULTILINE)


def left():
    found = []
    for directory in ("/run/multiarch.drone", "/tmp"):
        if os.path.isdir(directory):
            found += [
                name for name in os.listdir(directory) if re.fullmatch(r"multiarch\.drone\.\d+\.[0-9a-f]{16}", name)
            ]
    return [name for name in found if os.path.isfile(f"/run/multiarch.drone/{name}") or os.path.isfile(f"/tmp/{name}")]


@pytest.mark.parametrize("connection", ["local", "ssh"])
def test_a_long_build_says_what_it_is_at_in_the_order_of_the_hosts(play, connection):
    before = left()
    ran = play(connection)
    assert ran.code == 0, ran.shown
    said = lines(ran)
    assert any(line.startswith("[b-2] linux/s390x 4/7 RUN make TOKEN=********") for line in said), ran.shown
    assert any(line.startswith("[a-1] linux/s390x 4/7 RUN make TOKEN=********") for line in said), ran.shown
    assert left() == before


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {"multiarch_progress": False}),
        ((), {"multiarch_progress": "off"}),
        (("--check",), {}),
        ((), {"task": {"no_log": True}}),
    ],
)
def test_nothing_is_said_where_it_is_not_wanted(play, arguments, options):
    ran = play("local", *arguments, seconds=3, **options)
    assert ran.code == 0, ran.shown
    assert lines(ran) == []


def test_a_module_that_ends_before_its_first_line_asks_the_connection_nothing_more(play, tmp_path):
    play("ssh", seconds=0, multiarch_progress="yes")
    asked = (tmp_path / "asked").read_text()
    (tmp_path / "asked").unlink()
    play("ssh", seconds=0, multiarch_progress=False)
    assert (tmp_path / "asked").read_text() == asked


def test_a_setting_that_is_none_is_refused(play):
    ran = play("local", seconds=0, multiarch_progress="sometimes")
    assert ran.code != 0
    assert "multiarch_progress is 'sometimes'; it is true, false, or a number of seconds" in ran.shown


def test_a_task_that_fails_fails_as_it_does_without(play, tmp_path):
    ran = play("local", seconds="2; exit 3")
    assert ran.code == 2
    assert f"building {tmp_path}/context failed" in ran.shown
