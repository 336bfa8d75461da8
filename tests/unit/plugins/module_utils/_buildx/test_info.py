# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx import info
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.store import Builder, Node


class Handler:
    interpreter = "/usr/bin/qemu-x"


@pytest.fixture
def kernel(monkeypatch):
    """Let this host's kernel have QEMU for some architectures."""

    def has(*architectures):
        class Kernel:
            def of(self, architecture):
                return (Handler,) if architecture.oci in architectures else ()

        class Programs:
            def version(self, path):
                return "10.0.2"

        monkeypatch.setattr(info, "_kernel", Kernel)
        monkeypatch.setattr(info, "_programs", Programs)

    return has


def test_the_kernels_qemu_is_told_with_its_version_and_buildkits_own_apart(kernel):
    kernel("arm64")
    emulated = info._emulated(["linux/amd64", "linux/arm64", "linux/s390x"], ["linux/amd64"], local=True)
    assert emulated == [
        {"platform": "linux/arm64", "by": "kernel", "qemu": "10.0.2"},
        {"platform": "linux/s390x", "by": "buildkit", "qemu": None},
    ]


def test_who_emulates_on_another_machine_is_not_guessed(kernel):
    kernel("arm64")
    emulated = info._emulated(["linux/arm64"], [], local=False)
    assert emulated == [{"platform": "linux/arm64", "by": None, "qemu": None}]


def test_what_an_arm64_cpu_runs_beside_its_own_is_native_unless_this_kernel_emulates_it(kernel):
    platforms = ["linux/arm64", "linux/arm/v7", "linux/amd64"]
    kernel()
    assert info._native(platforms, local=True) == ["linux/arm64", "linux/arm/v7"]
    kernel("arm")
    assert info._native(platforms, local=True) == ["linux/arm64"]
    assert info._native(platforms, local=False) == ["linux/arm64", "linux/arm/v7"]
    assert info._native([], local=True) == []


@pytest.mark.parametrize(
    ("driver", "endpoint", "local"),
    [
        ("remote", "unix:///run/buildkit/buildkitd.sock", True),
        ("remote", "docker-container://bk", True),
        ("remote", "tcp://far:1234", False),
        ("remote", "ssh://far", False),
        ("docker-container", "unix:///var/run/docker.sock", True),
        ("docker-container", "ssh://far", False),
        ("kubernetes", "kubernetes:///ci", False),
    ],
)
def test_a_node_is_here_or_elsewhere(driver, endpoint, local):
    assert info.is_local(Builder("ci", driver, ()), Node("ci0", endpoint)) is local
