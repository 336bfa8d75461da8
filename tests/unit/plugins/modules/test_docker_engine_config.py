# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""daemon.json and the engine that follows: changed, taken back, finished after an interruption, and never hidden images."""

from __future__ import annotations

import errno
import itertools
import json
from typing import Any

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._docker import engine as _engine
from ansible_collections.multiarch.drone.plugins.module_utils._docker import steps, world
from ansible_collections.multiarch.drone.plugins.module_utils._docker import wish as _wish
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import docker_engine_config


class FakeEngine:
    """An engine that reads daemon.json when it is started or reloaded, as dockerd does."""

    def __init__(self, path: Any) -> None:
        self.path = path
        self.active = True
        self.version = "26.1.5"
        self.images = self.containers = 0
        self.refuses = ""  # an option that --validate finds no fault with, and that the engine cannot start with
        self.invalid = ""  # an option that --validate refuses
        self.calls: list[str] = []
        self.config: dict[str, Any] = {}
        self.swarm = "inactive"
        self.flags: tuple[str, ...] = ()
        self.breaks = 0  # the number of the change that fails

    def change(self, words: str) -> None:
        self.calls.append(words)
        if len(self.calls) == self.breaks:
            raise OSError(errno.EIO, "broken", words)

    def start(self) -> None:
        config = json.loads(self.path.read_text()) if self.path.exists() else {}
        if config.get("live-restore") and self.swarm != "inactive":
            self.active = False
            raise Problem("--live-restore daemon configuration is incompatible with swarm mode")
        if self.refuses and self.refuses in config:
            self.active = False
            raise Problem(f"systemctl restart docker.service failed: {self.refuses} does not work here")
        self.active, self.config = True, config

    def restart(self) -> None:
        self.change("restart")
        self.start()

    def reload(self, state: _engine.Unit) -> None:
        self.change("reload")
        self.config = {**self.config, **json.loads(self.path.read_text())}

    def unit(self) -> _engine.Unit:
        return _engine.Unit(installed=True, active=self.active, enabled=True, pid=0, flags=self.flags)

    def info(self, url: str = "/info") -> dict[str, Any]:
        snapshotter = (self.config.get("features") or {}).get("containerd-snapshotter")
        return {
            "ServerVersion": self.version,
            "Images": self.images,
            "Swarm": {"LocalNodeState": self.swarm},
            "Containers": self.containers,
            "Debug": self.config.get("debug", False),
            "LiveRestoreEnabled": self.config.get("live-restore", False),
            "Labels": self.config.get("labels", []),
            "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]] if snapshotter else [],
        }

    def call(self, *argv: str, timeout: float = 30) -> _engine.Said:
        if "--version" in argv:
            return _engine.Said(0, f"Docker version {self.version}, build x")
        with open(argv[-1], encoding="utf-8") as file:
            bad = self.invalid and self.invalid in json.load(file)
        return (
            _engine.Said(1, f"unable to configure with file {argv[-1]}: {self.invalid}")
            if bad
            else _engine.Said(0, "configuration OK")
        )


@pytest.fixture
def engine(tmp_path, monkeypatch):
    fake = FakeEngine(tmp_path / "docker/daemon.json")
    for name in ("restart", "reload", "call"):
        monkeypatch.setattr(_engine, name, getattr(fake, name))
    monkeypatch.setattr(_engine, "unit_now", fake.unit)
    monkeypatch.setattr(_engine, "get", fake.info)
    monkeypatch.setattr(_engine, "read", lambda state: _engine.engine_of(fake.info()) if state.active else None)
    monkeypatch.setattr(steps, "RELOAD_SECONDS", 0.2)
    return fake


@pytest.fixture
def declare(engine, run_module, looks_alike):
    def run(options=None, *, check=False, **arguments):
        arguments = {"containerd_store": "auto", "path": str(engine.path), "options": options or {}, **arguments}
        done = run_module(docker_engine_config, arguments, check=check)
        if check:
            looks_alike("engine", arguments, done)
        if engine.active and not check and not done.failed:
            engine.start()  # what was a success is one at the next start as well
        return done

    return run


def write(engine, config):
    engine.path.parent.mkdir(exist_ok=True)
    engine.path.write_text(config if isinstance(config, str) else json.dumps(config))


def record(engine):
    return engine.path.with_name(engine.path.name + world.RECORD_SUFFIX)


def test_check_mode_predicts_the_run_and_a_second_run_changes_nothing(engine, declare):
    write(engine, {"labels": ["rack=1"]})
    engine.start()
    wish = {"labels": ["ci=1"], "live-restore": True, "bip": "10.9.0.1/24"}
    before = engine.path.read_text()
    predicted = declare(wish, check=True)
    assert (engine.path.read_text(), record(engine).exists(), engine.calls) == (before, False, [])
    done = declare(wish)
    assert predicted == done
    assert done["changed"]
    assert done["follow"] == "restart"
    assert json.loads(engine.path.read_text()) == {
        "labels": ["ci=1", "rack=1"], "live-restore": True, "bip": "10.9.0.1/24", "features": {"containerd-snapshotter": True},
    }  # fmt: skip
    again = declare(wish)
    assert (again["changed"], again["steps"], engine.calls) == (False, [], ["restart"])


@pytest.mark.parametrize("state", ["active", "pending", "locked", "error"])
def test_a_node_of_a_swarm_does_without_the_default_live_restore_and_says_so(engine, declare, state):
    engine.swarm = state
    for check in (True, False):
        done = declare({"debug": True}, defaults={"live-restore": True, "max-download-attempts": 3}, check=check)
        assert not done.failed, done["msg"]
        assert f"a node of a swarm ({state})" in done["left_out"]["live-restore"]
        assert "the default live-restore is left out" in str(done["warnings"])
    assert {"debug": True, "max-download-attempts": 3}.items() <= json.loads(engine.path.read_text()).items()
    assert declare({"debug": True}, defaults={"live-restore": True, "max-download-attempts": 3})["changed"] is False


def test_a_default_that_was_declared_goes_when_the_engine_joins_a_swarm(engine, declare):
    declare(defaults={"live-restore": True})
    assert engine.config["live-restore"] is True
    engine.swarm = "active"
    done = declare(defaults={"live-restore": True})
    assert (done["changed"], "live-restore" in json.loads(engine.path.read_text())) == (True, False)


@pytest.mark.parametrize("found", [{}, {"live-restore": True}])
def test_a_wish_that_the_next_start_refuses_is_refused_and_says_whose_it_is(engine, declare, found):
    write(engine, found)
    engine.swarm = "active"
    failed = declare({} if found else {"live-restore": True})
    assert "a node of a swarm (active), and with live-restore it would not start again" in failed["msg"]
    assert ("which others wrote" in failed["msg"]) == bool(found)
    assert engine.calls == []
    assert json.loads(engine.path.read_text()) == found


@pytest.mark.parametrize(
    ("flags", "options", "message"),
    [
        (("-H", "fd://"), {"hosts": ["tcp://127.0.0.1:2375"]}, "hosts is set in daemon.json and by a flag"),
        (("--host=fd://",), {"hosts": ["unix:///run/x.sock"]}, "hosts is set in daemon.json and by a flag"),
        (("--insecure-registry", "a:5000"), {"insecure-registries": ["b:5000"]}, "insecure-registries is set"),
        (("-Hfd://", "--debug"), {"debug": False}, "debug is set"),
        ((), {"features": {"x": "yes"}}, "features: x is neither true nor false"),
        ((), {"data-root": "srv/docker"}, "data-root 'srv/docker' is not an absolute path"),
        ((), {"authorization-plugins": ["nobody-has-this"]}, "no authorization plugin nobody-has-this"),
    ],
)
@pytest.mark.parametrize("active", [True, False])
def test_what_the_next_start_refuses_is_refused_before_anything_is_changed(
    engine, declare, flags, options, message, active
):
    engine.flags, engine.active = flags, active
    for check in (True, False):
        assert message in declare(options, check=check)["msg"]
    assert not engine.path.exists()


@pytest.mark.parametrize(
    ("shown", "flags"),
    [
        ("ExecStart={ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// ; ignore_errors=no ; pid=7 }", ("-H", "fd://")),
        ("ExecStart={ path=/d ; argv[]=/d $OPTS --log-level=${LEVEL} ; ignore_errors=no }\nEnvironment=LEVEL=warn 'OPTS=-D -H x'", ("-D", "-H", "x", "--log-level=warn")),
        ("ExecStart={ path=/d ; argv[]=/d ; ignore_errors=no }", ()),
        ("LoadState=not-found", ()),
    ],
)  # fmt: skip
def test_the_flags_of_the_next_start_are_the_units(monkeypatch, shown, flags):
    monkeypatch.setattr(_engine, "call", lambda *_unused, **_unused2: _engine.Said(0, shown))
    assert _engine.unit().flags == flags


def test_the_flags_of_the_next_start_are_also_in_the_units_environment_file(monkeypatch, tmp_path):
    (tmp_path / "docker").write_text('# Docker\nDOCKER_OPTS="--dns 8.8.8.8"\n')
    shown = f"ExecStart={{ path=/d ; argv[]=/d $DOCKER_OPTS ; ignore_errors=no }}\nEnvironmentFiles={tmp_path}/docker (ignore_errors=yes)"
    monkeypatch.setattr(_engine, "call", lambda *_unused, **_unused2: _engine.Said(0, shown))
    assert _engine.unit().flags == ("--dns", "8.8.8.8")


@pytest.mark.parametrize(
    ("found", "options"),
    [
        ({}, {"options": {"bip": "10.9.0.1/24"}}),
        ({"labels": ["rack=1"]}, {"options": {"labels": ["rack=2"]}, "containerd_store": "false"}),
        ({"bip": "10.9.0.1/24"}, {"state": "absent"}),
        ({"bip": "10.9.0.1/24"}, {"options": {"bip": "10.9.0.1/24"}, "drifted": True}),
    ],
)
def test_a_change_of_which_any_call_fails_leaves_file_and_engine_as_they_were(
    engine, declare, monkeypatch, found, options
):
    real = steps._replace

    def replace(path, text, **more):
        engine.change(f"write {path.rpartition('/')[2]}")
        real(path, text, **more)

    monkeypatch.setattr(steps, "_replace", replace)
    options = dict(options)
    drifted = options.pop("drifted", False)
    for number in itertools.count(1):
        engine.breaks = 0
        declare(state="absent")
        write(engine, {})
        if found:
            declare(found, containerd_store="false")
        if drifted:
            found_record = json.loads(record(engine).read_text())
            record(engine).write_text(json.dumps({**found_record, "pending": "restart"}))
        engine.start()
        before = (engine.path.read_text(), record(engine).exists() and record(engine).read_text(), engine.config)
        engine.calls.clear()
        engine.breaks = number
        failed = declare(**options)
        if len(engine.calls) < number:
            break
        call = engine.calls[number - 1]
        assert "broken" in failed["msg"], call
        assert "not taken back" not in failed["msg"]
        after = (engine.path.read_text(), record(engine).exists() and record(engine).read_text(), engine.config)
        assert after == before, f"{call}: {failed['msg']}"
        assert engine.active
    assert number > 2


def test_a_reload_is_enough_where_it_is(engine, declare):
    declare({"live-restore": True}, containerd_store="false")
    assert engine.calls == ["reload"]


def test_absent_takes_away_what_was_declared_and_nothing_else(engine, declare):
    write(engine, {"labels": ["rack=1"]})
    engine.start()
    declare({"labels": ["ci=1"], "bip": "x"})
    assert declare(state="absent")["changed"]
    assert json.loads(engine.path.read_text()) == {"labels": ["rack=1"]}
    assert not record(engine).exists()
    assert not declare(state="absent")["changed"]


def test_absent_puts_back_the_value_of_others_that_a_declared_one_replaced(engine, declare):
    theirs = {"live-restore": False, "log-opts": {"max-size": "10m"}}
    write(engine, theirs)
    declare({"live-restore": True, "log-opts": {"max-size": "9m"}}, containerd_store="false")
    declare({"live-restore": True, "log-opts": {"max-size": "8m"}}, containerd_store="false")
    assert json.loads(engine.path.read_text()) == {
        "live-restore": True,
        "log-opts": {"max-size": "8m"},
        "features": {"containerd-snapshotter": False},
    }
    predicted = declare(state="absent", check=True)
    done = declare(state="absent")
    assert json.loads(engine.path.read_text()) == theirs
    assert not record(engine).exists()
    assert predicted["diff"] == done["diff"]
    assert not declare(state="absent")["changed"]


def test_a_file_that_held_nothing_but_ours_goes_with_it(engine, declare):
    declare({"bip": "x"})
    declare(state="absent")
    assert not engine.path.exists()


def test_what_the_engine_refuses_is_never_written(engine, declare):
    write(engine, {"debug": True})
    engine.invalid = "nonsense"
    for check in (True, False):
        failed = declare({"nonsense": 1}, check=check)
        assert failed["msg"].endswith(f"{engine.path}: nonsense; correct the declared options")
    assert (engine.path.read_text(), engine.calls) == ('{"debug": true}', [])


def test_an_engine_that_does_not_come_back_gets_its_old_file_back(engine, declare):
    write(engine, '{"debug":true}')
    engine.start()
    engine.refuses = "exec-opts"
    failed = declare({"exec-opts": ["x"]})
    assert "restart the engine: systemctl restart docker.service failed: exec-opts does not work here" in failed["msg"]
    assert f"taken back: restart the engine, write {engine.path}" in failed["msg"]
    assert (engine.path.read_text(), record(engine).exists()) == ('{"debug":true}', False)
    assert engine.active
    assert engine.calls == ["restart", "restart"]


def test_a_change_that_the_engine_does_not_take_over_is_taken_back(engine, declare, monkeypatch):
    monkeypatch.setattr(_engine, "reload", lambda state: None)
    failed = declare({"live-restore": True}, containerd_store="false")
    assert "did not take hold" in failed["msg"]
    assert not engine.path.exists()


def test_an_interrupted_run_is_finished_by_the_next(engine, declare):
    found = world.read(str(engine.path))
    steps._write(found, _wish.compare(found, {"bip": "x"}))  # and here the connection broke
    assert json.loads(record(engine).read_text())["pending"] == "restart"
    done = declare({"bip": "x"}, containerd_store="false")
    assert "restart the engine" in done["steps"]
    assert engine.calls == ["restart"]
    assert "pending" not in json.loads(record(engine).read_text())


def test_an_engine_that_runs_with_other_settings_than_its_file_is_told(engine, declare):
    declare({"live-restore": True})
    engine.config["live-restore"] = False
    done = declare({"live-restore": True})
    assert done["steps"] == ["reload the engine"]
    assert engine.config["live-restore"]


def test_a_stopped_engine_is_configured_and_not_started(engine, declare):
    engine.active = False
    done = declare({"bip": "x"})
    assert done["steps"] == [f"write {engine.path}"]
    assert (done["follow"], engine.calls, engine.active) == ("", [], False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": [1,}', "is not valid JSON"),
        ("[]", "holds list where an object belongs"),
        ("\xff", "is not valid JSON"),
    ],
)
def test_a_corrupt_file_is_an_error_and_stays_as_it_is(engine, declare, text, said):
    engine.path.parent.mkdir()
    engine.path.write_bytes(text.encode("latin-1"))
    failed = declare({"debug": True})
    assert said in failed["msg"]
    assert "mend or remove it; nothing was changed" in failed["msg"]
    assert engine.path.read_bytes() == text.encode("latin-1")


def test_a_corrupt_record_is_an_error_that_says_what_its_removal_means(engine, declare):
    write(engine, {})
    record(engine).write_text("{")
    assert "what was declared before then counts as foreign" in declare({"debug": True})["msg"]


def test_a_link_stays_a_link_and_a_mode_stays_a_mode(engine, declare):
    real = engine.path.parent / "real.json"
    write(engine, {})
    engine.path.rename(real)
    real.chmod(0o640)
    engine.path.symlink_to(real)
    declare({"bip": "x"})
    assert engine.path.is_symlink()
    assert json.loads(real.read_text())["bip"] == "x"
    assert real.stat().st_mode & 0o777 == 0o640


def test_the_record_repeats_secrets_and_is_for_root_alone(engine, declare):
    done = declare({"proxies": {"http-proxy": "http://me:hunter2@proxy"}, "log-opts": {"splunk-token": "t0k3n"}})
    assert record(engine).stat().st_mode & 0o777 == 0o600
    assert "http-proxy" in str(done)
    assert not [secret for secret in ("hunter2", "t0k3n") if secret in str(done)]


@pytest.mark.parametrize(
    ("version", "images", "containers", "declared"),
    [
        ("26.1.5", 0, 0, True),
        ("26.1.5", 1, 0, None),
        ("26.1.5", 0, 1, None),
        ("20.10.24+dfsg1", 0, 0, None),
        ("", 0, 0, True),
    ],
)
def test_auto_turns_the_containerd_store_on_only_where_nothing_is_hidden(
    engine, declare, version, images, containers, declared
):
    engine.version, engine.images, engine.containers = version, images, containers
    done = declare()
    assert done["containerd_store"]["declared"] is declared
    assert done["changed"] is bool(declared)


def test_auto_keeps_what_it_turned_on_when_images_have_come(engine, declare):
    declare()
    engine.images = 5
    assert not declare()["changed"]


def test_a_store_that_an_engine_has_not_is_refused(engine, declare):
    engine.version = "20.10.24+dfsg1"
    assert (
        "Docker 20.10.24+dfsg1 has no containerd image store; use 24.0 or later"
        in declare(containerd_store="true")["msg"]
    )


def test_declaring_what_the_engine_does_already_restarts_nothing(engine, declare):
    engine.images = 1
    done = declare(containerd_store="false")
    assert (done["changed"], done["follow"], engine.calls) == (True, "", [])
    assert not declare(containerd_store="false")["changed"]


def test_features_that_are_no_dictionary_are_refused(engine, declare):
    assert "features is not a dictionary" in declare({"features": ["containerd-snapshotter"]})["msg"]
    write(engine, {"features": ["nonsense"]})
    assert declare({"features": {"cdi": True}})["config"]["features"]["cdi"]
