# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the roles brought onto a host is recorded, and that and nothing else is taken back."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.module_utils._record import apt, declare, world

# What each package depends on.
DEPENDS = {"docker.io": ["containerd", "runc"], "qemu-user-static": ["qemu-user"], "podman": ["runc"], "docker-ce": []}
CONFLICTS = {"docker.io": "docker-ce"}


class Host:
    """apt and dpkg in memory, with a record in a directory of the test's own."""

    def __init__(self, tmp_path, monkeypatch):
        self.installed: set[str] = set()
        self.lists = True  # whether apt has package lists
        self.calls: list[tuple[str, ...]] = []
        self.breaks = False
        self.record = tmp_path / "lib/record.json"
        self.dpkg = tmp_path / "status"
        monkeypatch.setattr(world, "PATH", str(self.record))
        monkeypatch.setattr(world.read_record, "__defaults__", (str(self.record),))
        monkeypatch.setattr(world.write_record, "__defaults__", (str(self.record),))
        monkeypatch.setattr(world, "DPKG", str(self.dpkg))
        for name in ("update", "simulate_install", "simulate_remove", "install", "remove"):
            monkeypatch.setattr(apt, name, getattr(self, name))
        self.write()

    def write(self):
        entry = "Package: {}\nStatus: install ok installed\nVersion: 1\n"
        self.dpkg.write_text("\n".join(entry.format(name) for name in sorted(self.installed)))

    def update(self):
        self.lists = True
        self.calls.append(("update",))

    def closure(self, names):
        found = set(names)
        for name in names:
            found |= set(DEPENDS.get(name, []))
        return found

    def simulate_install(self, names):
        if not self.lists:
            return apt.Simulated((), (), "Unable to locate package")
        comes = self.closure(names)
        goes = tuple(CONFLICTS[name] for name in comes if CONFLICTS.get(name) in self.installed)
        return apt.Simulated(tuple(sorted(comes - self.installed)), goes, "")

    def simulate_remove(self, names, *, purge):
        needs = {name for name, wanted in DEPENDS.items() if name in self.installed and set(wanted) & set(names)}
        return apt.Simulated((), tuple(sorted({*names} | needs)), "")

    def install(self, names):
        self.calls.append(("install", *names))
        if self.breaks:
            raise Problem("apt-get install failed (100)")
        self.installed |= self.closure(names)
        self.write()

    def remove(self, names, *, purge=False):
        self.calls.append(("purge" if purge else "remove", *names))
        self.installed -= set(names)
        self.write()

    def run(self, role="docker_engine", *, check_mode=False, **options):
        params = {
            "role": role,
            "state": "present",
            "packages": [],
            "files": [],
            "made": [],
            "items": [],
            "purge": False,
        }
        params.update(options)
        return declare.work(SimpleNamespace(params=params, check_mode=check_mode))

    def recorded(self):
        return json.loads(self.record.read_text())["roles"] if self.record.exists() else {}


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def test_what_came_along_is_recorded_and_goes_too(host):
    host.installed = {"ca-certificates"}
    host.write()
    predicted = host.run(packages=["docker.io", "ca-certificates"], check_mode=True)
    assert host.calls == []
    done = host.run(packages=["docker.io", "ca-certificates"])
    assert done["packages"] == predicted["packages"] == ["containerd", "docker.io", "runc"]
    assert done["steps"] == predicted["steps"]
    assert done["diff"] == predicted["diff"]
    assert host.recorded()["docker_engine"]["packages"] == ["containerd", "docker.io", "runc"]
    assert not host.run(packages=["docker.io", "ca-certificates"])["changed"]
    taken = host.run(state="absent", packages=["docker.io", "ca-certificates"])
    assert taken["packages"] == ["containerd", "docker.io", "runc"]
    assert taken["kept"] == {
        "ca-certificates": "it was there before, or an earlier version of the collection brought it"
    }
    assert host.installed == {"ca-certificates"}
    assert not host.record.exists()
    assert not host.run(state="absent", packages=["docker.io"])["changed"]


def test_what_was_there_before_stays_unless_it_is_purged(host):
    host.installed = {"docker.io", "containerd", "runc"}
    host.write()
    assert not host.run(packages=["docker.io"])["changed"]
    kept = host.run(state="absent", packages=["docker.io"])
    assert (kept["changed"], list(kept["kept"])) == (False, ["docker.io"])
    assert host.run(state="absent", packages=["docker.io"], purge=True)["packages"] == ["docker.io"]
    assert host.calls == [("purge", "docker.io")]


def test_what_somebody_else_needs_by_now_stays_and_is_remembered(host):
    host.run(packages=["docker.io"])
    host.installed.add("podman")
    host.write()
    taken = host.run(state="absent", packages=["docker.io"])
    assert taken["kept"] == {"runc": "podman needs it"}
    assert host.installed == {"podman", "runc"}
    assert host.recorded()["docker_engine"]["packages"] == ["runc"]
    assert not host.run(state="absent", packages=["docker.io"])["changed"]
    host.installed.discard("podman")
    host.write()
    assert host.run(state="absent")["packages"] == ["runc"]
    assert host.recorded() == {}


def test_an_installation_that_would_remove_something_is_refused_in_check_mode_too(host):
    host.installed = {"docker-ce"}
    host.write()
    for check_mode in (True, False):
        with pytest.raises(Problem, match=r"for docker\.io apt would remove docker-ce; .*nothing was changed"):
            host.run(packages=["docker.io"], check_mode=check_mode)
    assert host.installed == {"docker-ce"}
    assert host.recorded() == {}


def test_check_mode_says_where_the_hosts_package_lists_do_not_tell_what_comes_along(host):
    host.lists = False
    predicted = host.run(packages=["docker.io"], check_mode=True)
    assert (predicted["packages"], predicted["complete"]) == (["docker.io"], False)
    assert host.calls == []
    assert host.run(packages=["docker.io"])["complete"]


def test_a_failed_installation_leaves_no_record(host):
    host.breaks = True
    with pytest.raises(Problem, match="apt-get install failed"):
        host.run(packages=["docker.io"])
    assert host.recorded() == {}


def test_files_are_recorded_before_they_are_made_and_those_of_somebody_else_are_not(host, tmp_path):
    made, theirs = tmp_path / "docker.sources", tmp_path / "theirs"
    theirs.write_text("theirs")
    files = [str(made), str(theirs)]
    assert host.run(files=files)["changed"]
    assert host.recorded()["docker_engine"]["files"] == [str(made)]
    made.write_text("ours")
    assert not host.run(files=files)["changed"]
    assert host.run(state="absent", check_mode=True)["steps"][0] == f"remove {made}"
    assert made.exists()
    host.run(state="absent")
    assert (made.exists(), theirs.exists()) == (False, True)


def test_directories_go_where_they_are_empty_and_stay_where_others_have_something_in_them(host, tmp_path):
    empty, shared = tmp_path / "empty", tmp_path / "shared"
    host.run(files=[str(empty), str(empty / "ours"), str(shared), str(shared / "ours")])
    for directory in (empty, shared):
        directory.mkdir()
        (directory / "ours").write_text("")
    (shared / "theirs").write_text("")
    taken = host.run(state="absent")
    assert taken["kept"] == {str(shared): "other files are in it"}
    assert not empty.exists()
    assert [path.name for path in shared.iterdir()] == ["theirs"]
    assert not host.run(state="absent")["changed"]
    (shared / "theirs").unlink()
    assert host.run(state="absent")["steps"] == [f"remove {shared}", "forget what was recorded"]
    assert host.recorded() == {}


def test_what_earlier_tasks_made_is_recorded_although_it_is_there(host, tmp_path):
    made = tmp_path / "made"
    made.write_text("")
    assert host.run(made=[str(made)], check_mode=True)["steps"] == [f"record {made}"]
    assert host.run(made=[str(made)])["changed"]
    assert not host.run(made=[str(made)])["changed"]
    host.run(state="absent")
    assert not made.exists()


def test_what_else_a_role_did_is_recorded_in_its_words_told_and_forgotten(host):
    assert host.run(items=["docker.service was disabled"])["steps"] == ["record docker.service was disabled"]
    assert not host.run(items=["docker.service was disabled"])["changed"]
    told = host.run(state="absent", check_mode=True)
    assert told["recorded"] == {"packages": [], "files": [], "items": ["docker.service was disabled"]}
    assert host.run(state="absent")["steps"] == told["steps"] == ["forget what was recorded"]
    assert not host.record.parent.exists()


def test_some_of_a_role_s_things_can_be_forgotten_alone(host):
    host.run("builder", items=["root/a", "root/b"], packages=["docker.io"])
    assert host.run("builder", state="absent", items=["root/b", "root/c"], check_mode=True)["steps"] == [
        "forget root/b"
    ]
    assert host.run("builder", state="absent", items=["root/b", "root/c"])["changed"]
    assert not host.run("builder", state="absent", items=["root/b"])["changed"]
    assert host.recorded()["builder"]["items"] == ["root/a"]
    assert "docker.io" in host.installed


def test_a_record_of_an_earlier_version_is_read(host):
    host.record.parent.mkdir()
    host.record.write_text('{"roles": {"qemu": {"packages": ["qemu-user"], "files": []}}}')
    assert host.run("qemu", items=["more"])["recorded"]["packages"] == ["qemu-user"]
    assert host.recorded()["qemu"] == {"packages": ["qemu-user"], "files": [], "items": ["more"]}


def test_the_packages_that_came_with_python_before_any_module_could_record_them_are_taken_back_too(host):
    """The playbook's shell writes them, one a line, and whatever it prints beside is no package."""
    host.record.parent.mkdir()
    noted = host.record.parent / "python"
    noted.write_text("python3\npython3-minimal\n\nE: no such thing\n")
    host.installed = {"python3", "python3-minimal", "perl-base"}
    host.write()
    host.run(packages=["docker.io"])
    assert not noted.exists()
    assert host.recorded()["python"]["packages"] == ["python3", "python3-minimal"]
    assert host.run("python", state="absent")["packages"] == ["python3", "python3-minimal"]
    assert host.installed == {"perl-base", "docker.io", "containerd", "runc"}


def test_a_package_that_another_role_brought_stays(host):
    host.run("qemu", packages=["qemu-user-static"])
    host.run("docker_engine", files=["/nowhere/file"])
    record = host.recorded()
    record["docker_engine"]["packages"] = ["qemu-user"]
    host.record.write_text(json.dumps({"roles": record}))
    DEPENDS_BEFORE = dict(DEPENDS)
    DEPENDS.clear()
    try:
        taken = host.run("docker_engine", state="absent")
    finally:
        DEPENDS.update(DEPENDS_BEFORE)
    assert taken["kept"] == {"qemu-user": "another role of the collection has it"}


@pytest.mark.parametrize("text", ["{", "[]", '{"roles": 1}', '{"roles": {"qemu": {}}}'])
def test_a_damaged_record_is_named(host, text):
    host.record.parent.mkdir()
    host.record.write_text(text)
    with pytest.raises(Problem, match=r"record\.json is damaged"):
        host.run(state="absent")


def test_apt_s_own_words_are_read():
    text = (
        "Reading package lists...\nInst runc (1.1 Debian:13 [amd64])\nInst libc6 [2.40] (2.41 Debian:13 [amd64])\n"
        "Inst docker.io (26.1 Debian:13 [amd64]) []\nRemv docker-ce [5:27.0]\nPurg podman [4]\nConf runc (1.1 Debian:13 [amd64])\n"
    )
    assert apt.parse(text, 0) == apt.Simulated(("docker.io", "runc"), ("docker-ce", "podman"), "")
    assert apt.parse("E: Unable to locate package x\n", 100).refusal == "Unable to locate package x"


def test_a_host_without_apt_is_refused_by_its_name_for_things(monkeypatch):
    monkeypatch.setattr(apt.shutil, "which", lambda _name: None)
    with pytest.raises(Problem, match="this host has no apt-get, and the roles know the packages of Debian and Ubuntu"):
        apt.update()


def test_where_something_is_mounted_is_read_from_the_kernels_list(tmp_path):
    (tmp_path / "mountinfo").write_text(
        "36 35 98:0 / / rw - ext4 /dev/root rw\n40 36 0:4 /v /var/lib/a\\040b rw,noatime master:1 - ext4 /dev/sda rw\nodd\n"
    )
    assert world.mount_points(str(tmp_path / "mountinfo")) == {"/", "/var/lib/a b"}
    assert world.mount_points(str(tmp_path / "nothing")) == frozenset()


def test_a_directory_on_which_something_is_mounted_stays_with_the_reason(host, tmp_path, monkeypatch):
    made = tmp_path / "made"
    made.mkdir()
    host.run("buildkitd", made=[str(made)])
    monkeypatch.setattr(world, "mount_points", lambda: frozenset([str(made)]))
    taken = host.run("buildkitd", state="absent")
    assert taken["kept"] == {str(made): "something is mounted on it"}
    assert made.is_dir()
