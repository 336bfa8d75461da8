# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module of BuildKit daemons as Ansible runs it: its result, what it did to the host, what is left where any of it fails."""

from __future__ import annotations

import itertools
import json
import os
import re
import types

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils import _files
from ansible_collections.multiarch.drone.plugins.module_utils._buildkitd import steps, wish, world
from ansible_collections.multiarch.drone.plugins.module_utils._docker import engine
from ansible_collections.multiarch.drone.plugins.modules import buildkitd_instances

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to others")
WORKERS = [
    {
        "buildkitVersion": {"version": "v0.34.2"},
        "platforms": [
            {"os": "linux", "architecture": "amd64"},
            {"os": "linux", "architecture": "arm", "variant": "v7"},
        ],
    }
]
PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
TLS = {"ca": PEM, "cert": PEM, "key": "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"}
# What may fail without an error: systemd is asked to forget, and what is stopped has failed already.
CLEARING_UP = ("systemctl reset-failed", "systemctl stop")


class Host:
    """A host whose files are below a directory of the test, and whose systemd and buildctl are in memory."""

    def __init__(self, top):
        self.top = top
        self.daemons = {}  # unit: {"active", "enabled", "mark", "stale"}
        self.users = set()
        self.refuses = ""  # what a daemon cannot start with, by its configuration
        self.answers = True
        self.serves_strangers = False
        self.calls = []
        self.breaks = 0

    def daemon(self, unit):
        return self.daemons.setdefault(unit, {"active": False, "enabled": False, "mark": "", "stale": False})

    @property
    def state(self):
        files = {}
        for path in sorted(self.top.rglob("*")):
            if path.is_file() and "programs" not in path.parts:
                files[path.relative_to(self.top).as_posix()] = (path.read_text(), path.stat().st_mode)
        running = {unit: dict(daemon) for unit, daemon in self.daemons.items() if daemon["active"] or daemon["enabled"]}
        return files, running, set(self.users)

    def change(self, *words):
        self.calls.append(" ".join(words).replace(f"{self.top}/", "/"))
        return len(self.calls) != self.breaks

    def call(self, *argv, timeout=30):
        if argv[:2] == ("systemctl", "show"):
            daemon = self.daemon(argv[2])
            told = {
                "ActiveState": "active" if daemon["active"] else "inactive",
                "UnitFileState": "enabled" if daemon["enabled"] else "disabled",
                "MainPID": argv[2] if daemon["active"] else 0,
                "NeedDaemonReload": "yes" if daemon["stale"] else "no",
            }
            return engine.Said(0, "\n".join(f"{key}={value}" for key, value in told.items()))
        if argv[0].endswith("buildctl"):
            if any("tls" in word for word in argv) and not any(word.startswith("--tlscert=") for word in argv):
                return engine.Said(0 if self.serves_strangers else 1, "certificate required")
            return engine.Said(0, json.dumps(WORKERS)) if self.answers else engine.Said(1, "connection refused")
        if argv[0] == "journalctl":
            return engine.Said(0, f"buildkitd: unknown setting {self.refuses}" if self.refuses else "")
        if not self.change(*argv):
            return engine.Said(1, "broken")
        if argv[0] == "rm":
            engine_call(*argv)
        elif argv[0] == "useradd":
            self.users.add(argv[-1])
        elif argv[0] == "userdel":
            self.users.remove(argv[-1])
        elif argv[1] == "daemon-reload":
            for daemon in self.daemons.values():
                daemon["stale"] = False
        elif argv[1] in ("enable", "disable"):
            daemon = self.daemon(argv[-1])
            daemon["enabled"] = argv[1] == "enable"
            if "--now" in argv:
                daemon["active"] = False
        elif argv[1] in ("restart", "start"):
            return self.start(argv[-1])
        elif argv[1] == "stop":
            self.daemon(argv[-1])["active"] = False
        return engine.Said(0, "")

    def start(self, unit):
        name = re.match(r"buildkitd@(.*)\.service", unit).group(1)
        config = self.top / "etc/buildkit" / name
        daemon = self.daemon(unit)
        daemon["active"] = not (self.refuses and self.refuses in (config / "buildkitd.toml").read_text())
        daemon["mark"] = re.search(f"{wish.MARK}=(.*)", (config / "environment").read_text()).group(1)
        return engine.Said(0 if daemon["active"] else 1, "Job failed")

    def environ(self, pid):
        return self.daemon(pid)["mark"]


engine_call = engine.call


@pytest.fixture
def host(tmp_path, monkeypatch):
    made = Host(tmp_path)
    (tmp_path / "programs").mkdir()
    for name in ("buildkitd", "buildctl"):
        (tmp_path / "programs" / name).write_text("")
    (tmp_path / "units").mkdir()
    (tmp_path / "etc").mkdir()
    for name, path in (("CONFIG", "etc/buildkit"), ("UNITS", "units"), ("STATE", "var/lib/buildkit")):
        for place in (wish, world, steps):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, str(tmp_path / path))
    real = _files.uid
    for place in (world, steps):
        monkeypatch.setattr(place, "uid", lambda user: 65534 if user in made.users else real(user))
    monkeypatch.setattr(world, "_mark", made.environ)
    for place in (engine, world, steps):
        monkeypatch.setattr(place, "call", made.call)
    monkeypatch.setattr(engine, "call", made.call)
    moment = itertools.count()
    clock = types.SimpleNamespace(
        monotonic=lambda: next(moment), sleep=lambda seconds: None, strftime=lambda form: "now"
    )
    monkeypatch.setattr(steps, "time", clock)
    put_all = _files.put_all

    def put(files):
        if not made.change("write", *(os.path.basename(path) for path in files)):
            raise OSError(28, "broken", next(iter(files)))
        put_all(files)

    monkeypatch.setattr(steps, "put_all", put)
    return made


@pytest.fixture
def declare(host, run_module, looks_alike, no_engine):
    def run(*instances, check=False, **options):
        wanted = {"instances": list(instances), "programs": str(host.top / "programs"), **options}
        done = run_module(buildkitd_instances, wanted, check=check)
        if check:
            looks_alike("buildkitd", wanted, done)
        return done

    return run


MAIN = {"name": "main", "port": 1234, "tls": TLS}
UNIT = "buildkitd@main.service"


def test_a_daemon_is_made_and_a_second_run_changes_nothing(host, declare):
    predicted = declare(MAIN, check=True)
    assert host.calls == []
    done = declare(MAIN)
    assert not done.failed, done["msg"]
    same = ("changed", "steps", "diff", "results", "unchanged")
    assert {key: done[key] for key in same} == {key: predicted[key] for key in same}
    assert host.calls == [
        "write buildkitd.toml buildkitd@main.service ca.pem cert.pem key.pem environment",
        "systemctl daemon-reload",
        f"systemctl reset-failed {UNIT}",
        f"systemctl restart {UNIT}",
        f"systemctl enable {UNIT}",
    ]
    (daemon,) = done["daemons"]
    assert (daemon["version"], daemon["port"], daemon["platforms"]) == (
        "v0.34.2",
        1234,
        ["linux/amd64", "linux/arm/v7"],
    )
    assert "c2VjcmV0" not in str(done)
    host.calls.clear()
    assert (declare(MAIN)["changed"], host.calls) == (False, [])


@pytest.mark.parametrize("umask", [0o077, 0o022, 0])
def test_a_rootless_daemon_can_read_its_configuration_and_nobody_else_can_write_it_whatever_the_umask(
    host, declare, umask
):
    before = os.umask(umask)
    try:
        done = declare({**MAIN, "rootless": True, "user": "nobody", "root": str(host.top / "var/lib/buildkit/main")})
    finally:
        os.umask(before)
    assert not done.failed, done["msg"]
    modes = {
        path: (host.top / path).stat().st_mode & 0o7777
        for path in ("etc/buildkit", "etc/buildkit/main", "var/lib/buildkit", "var/lib/buildkit/main")
    }
    assert modes == {
        "etc/buildkit": 0o755,
        "etc/buildkit/main": 0o755,
        "var/lib/buildkit": 0o755,
        "var/lib/buildkit/main": 0o700,
    }
    assert (host.top / "etc/buildkit/main/key.pem").stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize(
    ("mode", "rootless", "wrong"), [(0o777, False, True), (0o700, False, False), (0o700, True, True)]
)
def test_a_directory_that_others_may_write_into_or_a_rootless_daemon_cannot_read_is_drift(
    host, declare, mode, rootless, wrong
):
    wanted = {**MAIN, "rootless": rootless, "user": "nobody", "root": str(host.top / "var/lib/buildkit/main")}
    declare(wanted)
    path = host.top / "etc/buildkit"
    path.chmod(mode)
    done = declare(wanted)
    assert done["steps"] == ([f"main: set the mode of {path} to 0755"] if wrong else [])
    assert path.stat().st_mode & 0o7777 == (0o755 if wrong else mode)


def test_a_unit_that_systemd_has_not_read_since_it_was_written_is_drift(host, declare):
    declare(MAIN)
    host.daemons[UNIT]["stale"] = True
    assert declare(MAIN)["steps"] == [f"main: have systemd read {UNIT} again"]
    assert declare(MAIN)["changed"] is False


def test_a_daemon_that_does_not_start_gets_its_old_files_back_and_runs_as_before(host, declare):
    declare(MAIN)
    before = host.state
    host.refuses = "nonsense"
    failed = declare({**MAIN, "config": {"nonsense": True}})
    assert f"{UNIT} does not start: buildkitd: unknown setting nonsense" in failed["msg"]
    assert f"taken back: restart {UNIT}, write buildkitd.toml, environment" in failed["msg"]
    assert host.state == before
    assert host.calls[-1] == f"systemctl restart {UNIT}"


def test_a_disk_that_is_full_changes_nothing_and_says_so(host, declare, monkeypatch):
    declare(MAIN)
    before = host.state

    def full(files):
        if files:
            raise OSError(28, "No space left on device", next(iter(files)))

    monkeypatch.setattr(steps, "put_all", full)
    failed = declare({**MAIN, "config": {"debug": True}})
    assert "No space left on device" in failed["msg"]
    assert "nothing was changed" in failed["msg"]
    assert host.state == before


def test_a_daemon_that_serves_whoever_comes_is_no_success(host, declare):
    host.serves_strangers = True
    failed = declare(MAIN)
    assert "serves whoever reaches port 1234, with no certificate" in failed["msg"]
    assert host.state == ({}, {}, set())


def test_a_daemon_that_does_not_answer_is_no_success(host, declare):
    host.answers = False
    failed = declare({"name": "main"})
    assert "does not answer: connection refused" in failed["msg"]
    assert host.state == ({}, {}, set())


def test_exclusive_removes_those_that_are_not_listed_and_keeps_their_cache(host, declare):
    declare(MAIN, {"name": "other"})
    cache = host.top / "var/lib/buildkit/other"
    cache.mkdir(parents=True)
    done = declare(MAIN, exclusive=True)
    assert done["steps"] == [
        "other: stop and disable buildkitd@other.service",
        "other: remove buildkitd.toml, environment, buildkitd@other.service",
    ]
    assert cache.is_dir()
    done = declare({"name": "other"}, state="absent", keep_cache=False)
    assert done["steps"] == [f"other: remove {cache}"]
    assert not cache.exists()


def test_the_user_of_a_rootless_daemon_goes_with_its_cache_and_stays_with_it(host, declare):
    root = {"name": "main", "rootless": True, "root": str(host.top / "var/lib/buildkit/main")}
    assert not declare(root).failed
    declare({"name": "main"}, state="absent")
    assert host.users == {"buildkit-main"}
    predicted = declare({"name": "main"}, state="absent", keep_cache=False, check=True)
    done = declare({"name": "main"}, state="absent", keep_cache=False)
    assert done["steps"] == predicted["steps"]
    assert done["steps"][-1] == "main: remove the user buildkit-main"
    assert host.users == set()
    assert not declare({"name": "main"}, state="absent", keep_cache=False)["changed"]


@pytest.mark.parametrize(
    ("found", "wanted", "options"),
    [
        ([], [MAIN], {}),
        ([], [{"name": "main", "rootless": True}], {}),
        ([MAIN], [{**MAIN, "config": {"debug": True}}], {}),
        ([MAIN], [MAIN], {"state": "absent"}),
    ],
)
def test_a_change_of_which_any_call_fails_leaves_the_host_as_it_was(host, declare, found, wanted, options):
    roots = {"root": str(host.top / "var/lib/buildkit/main")}
    for number in itertools.count(1):
        host.breaks = 0
        host.users.clear()
        declare({"name": "main"}, state="absent")
        if found:
            declare(*({**instance, **roots} for instance in found))
        before = host.state
        host.calls.clear()
        host.breaks = number
        result = declare(*({**instance, **roots} for instance in wanted), **options)
        if len(host.calls) < number:
            break
        call = host.calls[number - 1]
        if not result.failed:
            assert call.startswith(CLEARING_UP), f"{call} failed, and nobody was told"
            continue
        assert "broken" in result["msg"], f"{call}: {result['msg']}"
        assert "not taken back" not in result["msg"]
        assert host.state == before, f"{call} failed: {result['msg']}"
    assert number > 4


def test_programs_in_a_directory_that_systemd_reads_as_two_words_are_refused(host, declare):
    (host.top / "programs").rename(host.top / "my programs")
    failed = declare(MAIN, programs=str(host.top / "my programs"))
    assert "my programs' is not a path that systemd takes as it is" in failed["msg"]
    assert host.calls == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"programs": "/srv/a\0b"}, "programs has a NUL character"),
        ({"instances": [{"name": "main", "group": "nobody-has-this"}]}, "there is no group 'nobody-has-this'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_changed(host, run_module, options, message):
    wanted = {"instances": [{"name": "main"}], "programs": str(host.top / "programs"), **options}
    for check in (True, False):
        failed = run_module(buildkitd_instances, wanted, check=check)
        assert message in failed["msg"]
    assert host.calls == []
