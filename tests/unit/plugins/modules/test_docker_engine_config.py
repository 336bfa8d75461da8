# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""daemon.json and the engine that follows: changed, taken back, finished after an interruption, and never hidden images."""

from __future__ import annotations

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

    def start(self) -> None:
        config = json.loads(self.path.read_text()) if self.path.exists() else {}
        if self.refuses and self.refuses in config:
            self.active = False
            raise Problem(f"systemctl restart docker.service failed: {self.refuses} does not work here")
        self.active, self.config = True, config

    def restart(self) -> None:
        self.calls.append("restart")
        self.start()

    def reload(self, state: _engine.Unit) -> None:
        self.calls.append("reload")
        self.config = {**self.config, **json.loads(self.path.read_text())}

    def unit(self) -> _engine.Unit:
        return _engine.Unit(installed=True, active=self.active, enabled=True, pid=0)

    def info(self, url: str = "/info") -> dict[str, Any]:
        snapshotter = (self.config.get("features") or {}).get("containerd-snapshotter")
        return {
            "ServerVersion": self.version,
            "Images": self.images,
            "Containers": self.containers,
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
    for name in ("unit", "restart", "reload", "call"):
        monkeypatch.setattr(_engine, name, getattr(fake, name))
    monkeypatch.setattr(_engine, "get", fake.info)
    monkeypatch.setattr(_engine, "read", lambda state: _engine.engine_of(fake.info()) if state.active else None)
    monkeypatch.setattr(steps, "RELOAD_SECONDS", 0.2)
    return fake


@pytest.fixture
def declare(engine, run_module):
    def run(options=None, *, check=False, **arguments):
        arguments = {"containerd_store": "auto", "path": str(engine.path), "options": options or {}, **arguments}
        return run_module(docker_engine_config, arguments, check=check)

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
    assert f"taken back: write {engine.path}" in failed["msg"]
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
    [('{"a": [1,}', "is no valid JSON"), ("[]", "holds list where an object belongs"), ("\xff", "is no valid JSON")],
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
    assert "features is no dictionary" in declare({"features": ["containerd-snapshotter"]})["msg"]
    write(engine, {"features": ["nonsense"]})
    assert declare({"features": {"cdi": True}})["config"]["features"]["cdi"]
