# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the real buildx stores is what the module expects: options, flags, configuration, every driver."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem


@pytest.fixture(autouse=True)
def _engine(user):
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine runs here")


def contained(**params):
    return {"driver": "docker-container", "bootstrap": False, **params}


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"nodes": [{"name": "bx-unit", "platforms": ["arm64", "armhf", "linux/amd64/v3", "arm/v5"]}]},
        {"nodes": [{"driver_opts": {"image": "example.org/buildkit:v1", "memory": "1g", "cpuset-cpus": "0,1", "env.A": 'x,"y"=z', "network": "host"}}]},
        {"nodes": [{"flags": ["--debug", "--oci-worker-labels 'a=b c'"]}]},
        {"nodes": [{"flags": ["--allow-insecure-entitlement=security.insecure"]}]},
        {"nodes": [{"flags": ["--allow-insecure-entitlement", "network.host"]}]},
        {"buildkitd_config": {"debug": True, "insecure-entitlements": ["security.insecure"]}},
        {"buildkitd_config": {"insecure-entitlements": ["network.host"]}},
        {"buildkitd_config": {"registry": {}}},
        {
            "buildkitd_config": {
                "registry": {"docker.io": {"mirrors": ["m.example.org:5000/a", "b"]}, "r.example.org:5000": {"http": True, "insecure": True}},
                "worker": {"oci": {"max-parallelism": 4, "gc": True, "gcpolicy": [{"all": True, "maxUsedSpace": "20GB", "filters": ["type==source.local"]}]}},
                "system": {"platformsCacheMaxAge": "1h"},
                "dns": {"nameservers": ["1.1.1.1"], "options": []},
                "frontend": {"dockerfile.v0": {"enabled": True}},
            }
        },
        {"nodes": [{"endpoint": "default"}]},
        {"nodes": [{"endpoint": "unix:///var/run/docker.sock"}]},
    ],
)  # fmt: skip
def test_what_is_declared_is_what_buildx_stores(user, wish):
    assert user.declare(**contained(**wish))["changed"]
    again = user.declare(**contained(**wish))
    assert (again["changed"], again["diff"]) == (False, {"before": {}, "after": {}})


def test_certificates_are_carried_along_and_a_new_one_is_a_change(user, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_text("one")
    config = {"registry": {"r.example.org:5000": {"ca": [str(ca)], "keypair": [{"key": str(ca), "cert": str(ca)}]}}}
    user.declare(**contained(buildkitd_config=config))
    assert not user.declare(**contained(buildkitd_config=config))["changed"]
    ca.write_text("two")
    changed = user.declare(**contained(buildkitd_config=config))
    assert list(changed["diff"]["after"]) == ["ci0 certificates"]


def test_the_users_default_configuration_is_taken_and_left_aside(user):
    user.state.mkdir(parents=True)
    (user.state / "buildkitd.default.toml").write_text("debug = true\n")
    user.declare(**contained())
    assert b"buildkitd.toml" in user.instance()
    assert not user.declare(**contained())["changed"]
    user.declare(**contained(buildkitd_config={}))
    assert b"buildkitd.toml" not in user.instance()


def test_a_context_is_an_endpoint(user):
    user.docker("context", "create", "other", "--docker", "host=unix:///var/run/docker.sock", check=True)
    wish = contained(nodes=[{"endpoint": "other"}])
    assert user.declare(**wish)["changed"]
    assert not user.declare(**wish)["changed"]
    with pytest.raises(Problem, match="is the name of a Docker context"):
        user.declare("other")


def test_what_buildx_refuses_changes_nothing(user):
    user.declare(**contained())
    before = user.instance()
    with pytest.raises(Problem, match="buildx create"):
        # A version of TOML's own that buildkitd cannot take.
        user.declare(**contained(buildkitd_config={"worker": {"oci": {"max-parallelism": "many"}}}))
    assert user.instance() == before


def test_an_engine_that_does_not_run_is_told_and_the_old_builder_stays(user, monkeypatch):
    user.declare(**contained())
    before = user.instance()
    with pytest.raises(Problem, match=r"start the daemon|failed to connect"):
        user.declare(**contained(nodes=[{"endpoint": "unix:///nowhere/docker.sock"}]))
    assert user.instance() == before


def test_the_engine_itself_is_a_builder_that_is_looked_at(user):
    result = user.declare("default", driver="docker", nodes=[{"platforms": ["amd64"]}], default=True)
    assert not result["changed"]
    assert result["builder"]["default"]
    with pytest.raises(Problem, match="cannot be executed by the engine"):
        user.declare("default", driver="docker", nodes=[{"platforms": ["arm64/v9"]}])
    with pytest.raises(Problem, match="declare it by the context's name"):
        user.declare("ci", driver="docker")
    with pytest.raises(Problem, match="takes its platforms alone"):
        user.declare("default", driver="docker", nodes=[{"driver_opts": {"image": "x"}}])
