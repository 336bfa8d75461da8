# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The registry client and skopeo, over one table of logins and configurations: what skopeo reads, the client reads."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image import registry
from ansible_collections.multiarch.drone.plugins.module_utils._image.reference import Reference
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.tests.standins.registry import (
    CHALLENGES,
    CONFIGS,
    PASSWORD,
    SERVERS,
    UNREADABLE,
    USER,
    Registry,
)


def ours(server):
    """Return the platforms that the client reads, None where it reads nothing."""
    (image,) = registry.read_all([Reference.parse(f"{server.host}/app:1")], registry.Access.of(timeout=10))
    return None if isinstance(image, Problem) else [entry.platform for entry in image.platforms]


def skopeos(server, config):
    """Return the same as skopeo reads it."""
    command = [
        "skopeo",
        "inspect",
        "--tls-verify=false",
        "--authfile",
        config,
        "--config",
        f"docker://{server.host}/app:1",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if ran.returncode:
        return None
    read = json.loads(ran.stdout)
    return [f"{read['os']}/{read['architecture']}"]


@pytest.fixture
def login(tmp_path, monkeypatch):
    """Log both in at a server; return the configuration's path."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(server):
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
        return tmp_path / "config.json"

    return write


@pytest.mark.parametrize("name", CHALLENGES)
def test_a_login_that_skopeo_understands_is_understood(login, name):
    with Registry(CHALLENGES[name]) as server:
        theirs = skopeos(server, login(server))
        assert ours(server) == ["linux/s390x"]
        assert theirs in (None, ["linux/s390x"])  # it gives up where the first scheme that it knows has no realm


@pytest.mark.parametrize(("media_type", "config_type"), CONFIGS)
def test_a_configuration_that_skopeo_takes_for_an_images_is_taken(login, media_type, config_type):
    with Registry(media_type=media_type, config_type=config_type) as server:
        theirs = skopeos(server, login(server))
        is_image = CONFIGS[media_type, config_type]
        assert ours(server) == (["linux/s390x"] if is_image else [])
        assert theirs is None or is_image


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_skopeo_reads_is_read_the_same(login, name):
    with Registry(**SERVERS[name]) as server:
        theirs = skopeos(server, login(server))
    with Registry(**SERVERS[name]) as server:
        login(server)
        read = ours(server)
    if name in UNREADABLE:
        assert read is None
    else:
        assert read == ["linux/s390x"]
        assert theirs in (None, read)
