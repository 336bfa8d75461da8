# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import copy
import hashlib

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.drift import drift
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.node import (
    RUNNING,
    Running,
    cannot_build,
    inspected,
)
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.store import Node
from ansible_collections.multiarch.drone.plugins.module_utils._docker.cli import Docker
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

NETWORK_HOST = "--allow-insecure-entitlement=network.host"
# What Docker 26.1.5 says of a container that buildx 0.13.1 made, less what is not looked at.
CONTAINER = {
    "Id": "c0ffee",
    "Image": "sha256:aaaa",
    "State": {"Running": True},
    "Config": {
        "Image": "moby/buildkit:v0.34.2",
        "Cmd": ["--config", "/etc/buildkit/buildkitd.toml", NETWORK_HOST],
        "Env": ["PATH=/usr/bin:/bin", "TOKEN=s3cret"],
    },
    "HostConfig": {
        "Memory": 2**30,
        "MemorySwap": 2**31,
        "CpuShares": 0,
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "NetworkMode": "bridge",
        "CgroupParent": "/docker/buildx",
        "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
    },
}
IMAGE = {"Id": "sha256:aaaa", "Config": {"Env": ["PATH=/usr/bin:/bin"]}}
CONFIG = {
    "worker": {
        "oci": {"gcpolicy": [{"keepDuration": "48h", "maxUsedSpace": 512000000}, {"all": True, "maxUsedSpace": "20GB"}]}
    }
}
GC = (
    {"all": False, "filter": None, "keepDuration": 172800 * 10**9, "maxUsedSpace": 512000000, "minFreeSpace": 0, "reservedSpace": 0},
    {"all": True, "filter": None, "keepDuration": 0, "maxUsedSpace": 20 * 2**30, "minFreeSpace": 0, "reservedSpace": 0},
)  # fmt: skip
NODE = Node(
    "ci0",
    "unix:///var/run/docker.sock",
    driver_opts={"image": "moby/buildkit:v0.34.2", "memory": "1g", "env.TOKEN": "s3cret"},
    flags=(NETWORK_HOST,),
    files={"buildkitd.toml": b"...", "certs/r/ca.pem": b"CA"},
)
CERTIFICATES = {"certs/r/ca.pem": hashlib.sha256(b"CA").hexdigest()}


def now(image=IMAGE, container=CONTAINER, **changes):
    settings = {"version": "v0.34.2", "gc": GC, "config": CONFIG, "certificates": CERTIFICATES, **changes}
    return Running(RUNNING, container=container, image=image, **settings)


def other(path, value):
    container = copy.deepcopy(CONTAINER)
    inner = container
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return container


def test_a_container_as_declared_has_no_drift():
    assert drift(NODE, CONFIG, now()) == []


@pytest.mark.parametrize(
    ("running", "message"),
    [
        (now(image={**IMAGE, "Id": "sha256:bbbb"}), "image: runs sha256:aaaa (moby/buildkit:v0.34.2), moby/buildkit:v0.34.2 is sha256:bbbb"),
        (now(image={}, container=other(["Config", "Image"], "moby/buildkit:v0.33.0")), "image: runs moby/buildkit:v0.33.0"),
        (now(version="v0.33.0"), "version: runs BuildKit v0.33.0, declared v0.34.2"),
        (now(container=other(["Config", "Cmd"], [NETWORK_HOST])), "command: "),
        (now(container=other(["HostConfig", "Memory"], 0)), "memory: 0, declared 1073741824"),
        (now(container=other(["HostConfig", "CpuShares"], 512)), "cpu-shares: 512, declared 0"),
        (now(container=other(["HostConfig", "NetworkMode"], "host")), "network: host, declared default"),
        (now(container=other(["HostConfig", "CgroupParent"], "/x")), "cgroup-parent: /x"),
        (now(container=other(["HostConfig", "RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 3})), "restart-policy: on-failure:3"),
        (now(container=other(["Config", "Env"], ["PATH=/bin", "TOKEN=old"])), "environment: TOKEN as declared is not set"),
        (now(container=other(["Config", "Env"], ["TOKEN=s3cret", "DEBUG=1"])), "environment: DEBUG is set, not declared"),
        (now(config={}), "config in the container: differs in worker"),
        (now(certificates={}), "certificates in the container: certs/r/ca.pem"),
        (now(gc=GC[:1]), "gc policy: 1 rules in force, declared 2"),
        (now(gc=(GC[0], {**GC[1], "maxUsedSpace": 1})), "gc policy: rule 1: maxUsedSpace is 1, declared 21474836480"),
    ],
)  # fmt: skip
def test_each_way_in_which_a_container_can_differ_is_told(running, message):
    found = drift(NODE, CONFIG, running)
    assert len(found) == 1
    assert found[0].startswith(message)
    assert "s3cret" not in found[0]


def test_what_only_the_daemon_can_tell_is_no_drift():
    share = {
        "worker": {
            "oci": {
                "gcpolicy": [{"keepDuration": "48h", "maxUsedSpace": "10%"}, CONFIG["worker"]["oci"]["gcpolicy"][1]]
            }
        }
    }
    assert drift(NODE, share, now(config=share)) == []
    without_cgroupfs = now(container=other(["HostConfig", "CgroupParent"], ""))
    assert drift(NODE, CONFIG, without_cgroupfs) == []


def test_an_image_that_buildx_pinned_by_its_digest_is_the_declared_one():
    pinned = other(["Config", "Image"], "moby/buildkit:v0.34.2@sha256:cccc")
    assert drift(NODE, CONFIG, now(image={}, container=pinned)) == []


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("moby/buildkit:v0.34.2", True),
        ("mirror.example.org:5000/moby/buildkit:v0.34.2-rootless", True),
        ("r.example.org/ci/buildkit:v0.34.2", False),
        ("r.example.org/notmoby/buildkit:v0.34.2", False),
    ],
)
def test_only_the_tags_of_buildkits_own_images_are_taken_for_its_version(image, says):
    node = NODE._replace(driver_opts={**NODE.driver_opts, "image": image})
    found = drift(node, CONFIG, now(version="v0.33.0"))
    assert found == (["version: runs BuildKit v0.33.0, declared v0.34.2"] if says else [])


def test_a_switched_off_gc_that_is_in_force_is_drift():
    off = {"worker": {"oci": {"gc": False}}}
    assert drift(NODE, off, now(config=off)) == ["gc policy: 2 rules in force, declared off"]
    assert drift(NODE, off, now(config=off, gc=())) == []


def test_a_node_without_a_container_has_no_drift():
    assert drift(NODE, CONFIG, Running("missing")) == []


def test_a_platform_that_buildkit_cannot_execute_is_found():
    node = Node("n", "e", platforms=("linux/amd64", "linux/s390x"))
    assert cannot_build(node, Running(RUNNING, platforms=("linux/amd64", "linux/386"))) == ["linux/s390x"]
    assert cannot_build(node, Running("inactive")) == []


# `docker buildx inspect` of buildx 0.38.2 and 0.13.1.
INSPECTED = """Name:          ci
Driver:        remote
Last Activity: 2026-11-23 23:54:02 +0000 UTC

Nodes:
Name:             ci0
Endpoint:         unix:///run/buildkit/buildkitd.sock
Status:           running
BuildKit version: v0.34.2
Platforms:        linux/amd64*, linux/amd64/v2, linux/arm64/v8, wasi/wasm
Labels:
 org.mobyproject.buildkit.worker.executor:         oci
GC Policy rule#0:
 All:            false

Name:     ci1
Endpoint: tcp://127.0.0.1:1
Status:   inactive

Name:     ci2
Endpoint: tcp://nowhere:1
Error:    dial tcp: lookup nowhere: no such host
"""


@pytest.fixture
def says(tmp_path):
    def make(text):
        (tmp_path / "out").write_text(text)
        (tmp_path / "docker").write_text(f"#!/bin/sh\ncat {tmp_path}/out\n")
        (tmp_path / "docker").chmod(0o755)
        return Docker(str(tmp_path / "docker"))

    return make


def test_buildxs_words_about_nodes_are_understood(says):
    nodes = inspected(says(INSPECTED), "ci")
    assert {name: node.status for name, node in nodes.items()} == {"ci0": "running", "ci1": "inactive", "ci2": "error"}
    assert nodes["ci0"].version == "v0.34.2"
    assert nodes["ci0"].platforms == ("linux/amd64", "linux/amd64/v2", "linux/arm64", "wasi/wasm")
    assert nodes["ci2"].error == "dial tcp: lookup nowhere: no such host"


def test_an_error_of_the_whole_builder_is_a_problem(says):
    with pytest.raises(Problem, match="no such context"):
        inspected(says("Name:   x\nDriver: \nError:  no such context\n"), "x")
