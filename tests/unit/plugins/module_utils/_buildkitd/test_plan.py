# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils import _toml
from ansible_collections.multiarch.drone.plugins.module_utils._buildkitd import steps as _steps
from ansible_collections.multiarch.drone.plugins.module_utils._buildkitd import world as _world
from ansible_collections.multiarch.drone.plugins.module_utils._buildkitd.plan import plan, plan_old_programs
from ansible_collections.multiarch.drone.plugins.module_utils._buildkitd.wish import Programs, declare
from ansible_collections.multiarch.drone.plugins.module_utils._buildkitd.world import Service, World
from ansible_collections.multiarch.drone.plugins.module_utils._docker import engine
from ansible_collections.multiarch.drone.plugins.module_utils._docker.engine import Said
from ansible_collections.multiarch.drone.plugins.module_utils._files import File
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

PROGRAMS = Programs("/opt/buildkit", "1 1")
PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
TLS = {"ca": PEM, "cert": PEM, "key": PEM.replace("CERTIFICATE", "PRIVATE KEY")}


def one(programs=PROGRAMS, **options):
    return declare([{"name": "main", **options}], programs)[0]


def toml(daemon):
    return _toml.load(daemon.files[f"/etc/buildkit/{daemon.name}/buildkitd.toml"].text)


def unit(daemon):
    return daemon.files[f"/etc/systemd/system/buildkitd@{daemon.name}.service"].text.splitlines()


def test_two_instances_have_nothing_in_common():
    first, second = declare([{"name": "a", "port": 1, "tls": TLS}, {"name": "b", "port": 2, "tls": TLS}], PROGRAMS)
    assert not set(first.files) & set(second.files)
    assert toml(first)["root"] != toml(second)["root"]
    assert toml(first)["grpc"] == {
        "address": ["unix:///run/buildkit/a/buildkitd.sock", "tcp://0.0.0.0:1"],
        "uid": 0,
        "gid": 0,
        "tls": {part: f"/etc/buildkit/a/{part}.pem" for part in ("cert", "key", "ca")},
    }


def test_containerd_which_would_be_shared_is_no_worker():
    assert toml(one())["worker"]["containerd"] == {"enabled": False}


def test_without_a_port_there_is_the_socket_alone():
    assert toml(one())["grpc"]["address"] == ["unix:///run/buildkit/main/buildkitd.sock"]
    assert not [path for path in one().files if path.endswith(".pem")]


def test_nothing_insecure_is_allowed_unless_it_is_asked_for():
    assert "insecure-entitlements" not in toml(one())
    assert toml(one(insecure_entitlements=["network.host"]))["insecure-entitlements"] == ["network.host"]


def test_the_configuration_wins_over_the_policy_of_the_role_and_keeps_what_else_it_says():
    config = {"registry": {"r:5000": {"http": True}}, "worker": {"oci": {"maxUsedSpace": "1GB", "max-parallelism": 2}}}
    settings = toml(one(config=config, gc={"maxUsedSpace": "60%", "minFreeSpace": "20%"}))
    assert settings["registry"] == config["registry"]
    assert settings["worker"]["oci"] == {
        "enabled": True,
        "gc": True,
        "maxUsedSpace": "1GB",
        "minFreeSpace": "20%",
        "max-parallelism": 2,
    }
    assert config["worker"] == {"oci": {"maxUsedSpace": "1GB", "max-parallelism": 2}}


def test_an_ipv6_address_is_written_with_brackets():
    assert toml(one(port=1, tls=TLS, address="::1"))["grpc"]["address"][1] == "tcp://[::1]:1"


def test_private_keys_and_variables_are_for_their_owner_alone():
    daemon = one(port=1, tls=TLS, environment={"HTTPS_PROXY": "http://u:p@proxy"})
    modes = {path.rpartition("/")[2]: (file.mode, file.secret) for path, file in daemon.files.items()}
    assert modes["key.pem"] == modes["environment"] == (0o600, True)


def test_a_rootless_daemon_runs_as_a_user_of_its_own_and_publishes_its_port():
    daemon = one(rootless=True, port=1234, tls=TLS)
    assert daemon.user == "buildkit-main"
    assert {"User=buildkit-main", "Group=buildkit-main"} <= set(unit(daemon))
    assert "--publish=0.0.0.0:1234:1234/tcp" in "".join(unit(daemon))
    assert daemon.files["/etc/buildkit/main/key.pem"].owner == "buildkit-main"
    assert toml(daemon)["worker"]["oci"]["rootless"] is True


@pytest.mark.parametrize(
    "change",
    [{"config": {"debug": True}}, {"environment": {"A": "1"}}, {"group": "docker"}, {"gc": {"maxUsedSpace": "1GB"}}],
)
def test_whatever_changes_makes_the_running_daemon_an_older_one(change):
    extra = {"gid": 5} if "group" in change else {}
    assert one(**change, **extra).mark != one().mark


def test_a_new_program_and_a_new_certificate_make_the_running_daemon_an_older_one():
    assert one(Programs("/opt/buildkit", "2 2")).mark != one().mark
    other = {**TLS, "cert": PEM.replace("MII", "MIJ")}
    assert one(port=1, tls=TLS).mark != one(port=1, tls=other).mark
    # The probe's certificate is none of the daemon's.
    assert one(port=1, tls=TLS).mark == one(port=1, tls={**TLS, "probe_cert": PEM, "probe_key": TLS["key"]}).mark


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Main"}, "'Main' is not a valid name for an instance"),
        ({"name": "../etc"}, "is not a valid name for an instance"),
        ({"name": "a" * 23}, "is not a valid name for an instance"),
        ({"port": 70000}, "70000 is not a valid port"),
        ({"port": 1234}, "a port needs certificates, and tls lacks ca, cert, key"),
        ({"port": 1234, "tls": {**TLS, "key": ""}}, "tls lacks key"),
        ({"port": 1234, "tls": {**TLS, "ca": "/etc/ssl/ca.pem"}}, "tls.ca holds no PEM"),
        ({"port": 1234, "tls": {**TLS, "probe_key": PEM}}, "one of probe_cert and probe_key"),
        ({"config": {"root": "/srv"}}, "config sets root, which the module sets; use root"),
        ({"config": {"grpc": {"address": ["tcp://0.0.0.0:1"]}}}, "use port, address, group and tls"),
        ({"config": {"insecure-entitlements": ["security.insecure"]}}, "use insecure_entitlements"),
        ({"config": {"worker": {"containerd": {"enabled": True}}}}, "would share one namespace"),
        ({"config": {"worker": []}}, "config.worker is not a dictionary"),
        ({"config": {"worker": {"oci": True}}}, "config.worker.oci is not a dictionary"),
        ({"config": {"registry": {"r:5000": "http"}}}, "config.registry.r:5000 is not a dictionary"),
        ({"config": {"debug": None}}, "TOML cannot say"),
        ({"port": True}, "port is true, which is not a number"),
        ({"address": "everywhere"}, "'everywhere' is not an IP address"),
        ({"root": "/srv/a b"}, "'/srv/a b' is not a path that systemd takes"),
        ({"root": "/srv/%i"}, "is not a path that systemd takes"),
        ({"root": "/srv/a\0b"}, "instances.root has a NUL character"),
        ({"rootless": True, "user": "a\nExecStart=/bin/sh"}, "is not a valid name"),
        ({"environment": {"A": None}}, "the variable 'A' has no value"),
        ({"environment": {"A": "b\0"}}, "has a NUL character"),
        ({"environment": {"A": 'x"\nExecStart=/bin/sh'}}, "'A' cannot be written for systemd"),
        ({"environment": {"MULTIARCH_DECLARED": "x"}}, "cannot be written for systemd"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_changed(options, message):
    with pytest.raises(Problem, match=message):
        one(**options)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"name": "a"}, "two instances have the name a"),
        ({"name": "b", "port": 1, "tls": TLS}, "two instances have the port 1"),
        ({"name": "b", "root": "/var/lib/buildkit/a"}, "two instances have the root /var/lib/buildkit/a"),
    ],
)
def test_two_instances_with_one_name_port_or_cache_are_refused(second, message):
    with pytest.raises(Problem, match=message):
        declare([{"name": "a", "port": 1, "tls": TLS}, second], PROGRAMS)


def test_in_check_mode_certificates_that_are_not_made_yet_are_no_error():
    empty = dict.fromkeys(TLS, "")
    assert declare([{"name": "a", "port": 1, "tls": empty}], PROGRAMS, may_lack=True)[0].port == 1


def test_a_converged_daemon_has_no_steps():
    daemon = one(port=1, tls=TLS)
    world = World(daemon.files, Service(active=True, enabled=True, mark=daemon.mark), workers=[{}])
    assert plan(daemon, world, PROGRAMS).steps == []


@pytest.mark.parametrize(
    ("service", "workers", "steps"),
    [
        (Service(active=True, enabled=True, mark="older"), [{}], ["restart buildkitd@main.service"]),
        (Service(active=True, enabled=True, mark=one().mark), None, ["restart buildkitd@main.service"]),
        (Service(active=False, enabled=True), None, ["start buildkitd@main.service"]),
        (Service(active=True, enabled=False, mark=one().mark), [{}], ["enable buildkitd@main.service"]),
    ],
)
def test_a_daemon_is_touched_only_for_a_reason(service, workers, steps):
    daemon = one()
    found = plan(daemon, World(daemon.files, service, workers), PROGRAMS)
    assert [step.summary for step in found.steps] == steps


def test_a_key_that_others_can_read_is_written_again():
    daemon = one(port=1, tls=TLS)
    path = "/etc/buildkit/main/key.pem"
    open_key = File(daemon.files[path].text, 0o644)
    world = World({**daemon.files, path: open_key}, Service(True, True, daemon.mark), workers=[{}])
    assert [step.summary for step in plan(daemon, world, PROGRAMS).steps] == ["write key.pem"]


def test_no_secret_is_in_the_diff():
    daemon = one(port=1, tls=TLS, environment={"HTTPS_PROXY": "http://u:pass@proxy"})
    found = plan(daemon, World({}, Service()), PROGRAMS)
    assert "pass@proxy" not in str(found.after)
    assert "PRIVATE KEY" not in str(found.after)


def test_the_reason_why_a_daemon_does_not_start_is_its_own_last_word(monkeypatch):
    log = "Starting…\nbuildkitd: listen tcp 0.0.0.0:1: bind: address already in use\nbuildkitd@main.service: Failed with result 'exit-code'."
    monkeypatch.setattr(engine, "call", lambda *argv, **options: Said(0, log))
    assert (
        engine.journal_words("u", _steps.REASON, "s") == "buildkitd: listen tcp 0.0.0.0:1: bind: address already in use"
    )


def test_programs_of_older_versions_are_removed_when_no_daemon_runs_them(monkeypatch, tmp_path):
    for version in ("new", "old", "others"):
        (tmp_path / version).mkdir()
    for place in (_world, _steps):
        monkeypatch.setattr(place, "declared_before", lambda: ["main", "other"])
        monkeypatch.setattr(place, "programs_of", lambda name: [f"{tmp_path}/{'others' if name == 'other' else 'old'}"])
    tools = Programs(f"{tmp_path}/new", "1 1")
    assert _world.old_programs(str(tmp_path), tools, ["main"]) == [f"{tmp_path}/old"]
    # The daemon that should have left them did not start with the new ones.
    with pytest.raises(Problem, match=r"kept, since buildkitd@main\.service still runs them"):
        plan_old_programs([f"{tmp_path}/old"]).steps[0].check()


@pytest.mark.parametrize("rootless", [True, False])
def test_a_unit_tells_which_programs_it_runs(monkeypatch, rootless):
    unit_file = one(rootless=rootless).files["/etc/systemd/system/buildkitd@main.service"]
    monkeypatch.setattr(_world, "read_file", lambda path: unit_file)
    assert _world.programs_of("main") == ["/opt/buildkit"]
