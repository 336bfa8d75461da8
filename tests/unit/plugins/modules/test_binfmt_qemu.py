# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import (
    binfmt_d,
    cpu,
    deep,
    kernel,
    kernel_write,
    probe,
    qemu,
    restart,
)
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.elf import program
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.kernel import Handler, Kernel
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.probe import Run
from ansible_collections.multiarch.drone.plugins.module_utils._platform import ARCHITECTURES, by_machine
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import binfmt_qemu, binfmt_qemu_info

RECORDED = Path(__file__).parents[2] / "fixtures/binfmt"


class Host:
    """A kernel of one list, and a probe that runs what the list says; its calls are noted."""

    def __init__(self):
        self.handlers = []  # the newest first
        self.state = "on"
        self.writable = True
        self.calls = []
        self.broken = set()  # architectures whose programs end badly with whatever interpreter
        self.refused = set()  # names that the kernel does not take
        self.refused_once = set()  # and those that it does not take the next time
        self.stale = set()  # interpreters of which the kernel runs an older one

    def read(self):
        return Kernel(self.state, tuple(self.handlers), self.writable and self.state in ("on", "off"))

    def register(self, handler):
        self.calls.append(f"register {handler.name}")
        if handler.name in self.refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        if handler.name in self.refused_once:
            self.refused_once.discard(handler.name)
            raise Problem(f"cannot register {handler.name}")
        assert handler.name not in [known.name for known in self.handlers], "EEXIST"
        self.handlers.insert(0, handler)
        self.stale.discard(handler.interpreter)

    def remove(self, name):
        if any(handler.name == name for handler in self.handlers):
            self.calls.append(f"remove {name}")
        self.handlers = [handler for handler in self.handlers if handler.name != name]

    def enable(self, name, on):
        self.handlers = [h._replace(enabled=on) if h.name == name else h for h in self.handlers]

    def switch(self, on):
        self.state = "on" if on else "off"

    def mount(self):
        self.state = "on"

    def run(self, architecture, look=None, *, unseen=False):
        answering = self.read().of(architecture)
        if unseen or not answering or self.state == "off":
            return Run(None, "Exec format error")
        if architecture.oci in self.broken:
            return Run(2)
        look("/proc/self/exe" if answering[0].interpreter in self.stale else answering[0].interpreter)
        return Run(3)


@pytest.fixture
def host(tmp_path, monkeypatch):
    host = Host()
    monkeypatch.setattr(kernel, "read", host.read)
    for name in ("register", "remove", "enable", "switch", "mount"):
        monkeypatch.setattr(kernel_write, name, getattr(host, name))
    monkeypatch.setattr(kernel_write, "load", lambda **_options: setattr(host, "state", "not mounted"))
    monkeypatch.setattr(probe, "run", host.run)
    monkeypatch.setattr(cpu, "by_machine", lambda _uname: by_machine("x86_64"))
    monkeypatch.setattr(qemu, "runs_file_of", lambda machine: machine == by_machine(os.uname().machine).arch.machine)
    monkeypatch.setattr(restart, "ROOT", str(tmp_path / "root"))
    unit = tmp_path / "root/usr/lib/systemd/system/systemd-binfmt.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\nDescription=Set Up Additional Binary Formats\n")
    (tmp_path / "root/run/systemd/system").mkdir(parents=True)
    monkeypatch.setattr(qemu, "CACHE", str(tmp_path / "qemu.json"))
    monkeypatch.setattr(qemu.Programs.__init__, "__defaults__", (str(tmp_path / "qemu.json"),))
    monkeypatch.setattr(qemu, "PACKAGED", tuple(f"{tmp_path}{path}" for path in qemu.PACKAGED))
    monkeypatch.setattr(qemu.Programs, "_ask", staticmethod(lambda _path: "10.0.13"))
    monkeypatch.setattr(qemu.Programs, "same", lambda _self, one, other: one == other)
    monkeypatch.setattr(binfmt_d, "OWN", str(tmp_path / "etc"))
    monkeypatch.setattr(binfmt_d, "LOWER", (str(tmp_path / "lib"),))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    own = program(by_machine(os.uname().machine).arch)
    for architecture in ARCHITECTURES.values():
        path = tmp_path / f"usr/libexec/qemu-binfmt/{architecture.qemu}-binfmt-P"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(own)
        path.chmod(0o755)
    host.tmp_path = tmp_path
    host.wrapper = lambda name: str(tmp_path / f"usr/libexec/qemu-binfmt/{ARCHITECTURES[name].qemu}-binfmt-P")
    return host


def known(architecture, interpreter, flags="POCF", **fields):
    return Handler.for_architecture(ARCHITECTURES[architecture], interpreter, flags)._replace(**fields)


def recorded(source):
    texts = json.loads((RECORDED / f"{source}.json").read_text())
    return [handler for name, text in texts.items() if (handler := Handler.from_kernel(name, text))]


@pytest.fixture
def declare(run_module, host, looks_alike, no_engine):
    """Check mode, run, run again: what they promise to each other is held for every test."""

    def call(*platforms, **options):
        arguments = {"platforms": list(platforms), **options}
        predicted = run_module(binfmt_qemu, arguments, check=True)
        looks_alike("qemu", arguments, predicted)
        assert host.calls == [], "check mode changed something"
        result = run_module(binfmt_qemu, arguments)
        assert predicted.get("steps") == result.get("steps")
        assert predicted.get("diff") == result.get("diff")
        if not result.failed:
            calls = list(host.calls)
            again = run_module(binfmt_qemu, arguments)
            assert not again["changed"]
            assert host.calls == calls
        return result

    return call


@pytest.fixture
def run(run_module, host):
    """Run the module once."""
    return lambda *platforms, **options: run_module(binfmt_qemu, {"platforms": list(platforms), **options})


@pytest.mark.parametrize("source", ["debian-12", "debian-13", "tonistiigi"])
def test_handlers_of_each_source_become_ours_or_stay_for_good(host, declare, source):
    host.handlers = recorded(source)
    result = declare("arm64", "arm", "s390x", "ppc64le")
    assert all(report["flags"] == "POCF" and report["verified"] for report in result["platforms"])
    # The standing ones answer for a moment longer: the stand-in comes first and goes last.
    assert host.calls[:4] == [
        "register qemu-aarch64~multiarch",
        "remove qemu-aarch64",
        "register qemu-aarch64",
        "remove qemu-aarch64~multiarch",
    ]
    assert len(host.handlers) == len(recorded(source))


@pytest.mark.parametrize(("credentials", "changed"), [(False, False), (True, True)])
def test_debians_own_handler_is_as_wished_where_credentials_are_not(host, declare, credentials, changed):
    # As Debian's package registers it, mask and all; its interpreter is in this test's directory.
    host.handlers = [
        handler._replace(interpreter=f"{host.tmp_path}{handler.interpreter}") for handler in recorded("debian-13")
    ]
    assert declare("s390x", "ppc64le", credentials=credentials, persistent=False)["changed"] is changed


def test_exclusive_leaves_python_alone(host, declare):
    host.handlers = recorded("debian-12")
    declare("arm64", exclusive=True, persistent=False)
    assert sorted(handler.name for handler in host.handlers) == ["python3.11", "qemu-aarch64"]


def test_a_stale_qemu_is_registered_again(host, declare):
    host.handlers = [known("arm64", host.wrapper("arm64"))]
    host.stale = {host.wrapper("arm64")}
    assert "has other content now" in declare("arm64")["steps"][0]


def test_a_failed_registration_leaves_the_old_handler(host, run):
    old = known("arm64", "/old/qemu-aarch64", "OC")
    host.handlers = [old]
    host.broken = {"arm64"}
    result = run("arm64")
    assert "swallowed" in result["msg"]
    assert "nothing was changed" in result["msg"]
    assert host.handlers == [old]
    assert "remove qemu-aarch64" not in host.calls


@pytest.mark.parametrize("enabled", [True, False])
def test_the_old_handler_is_put_back_where_registering_again_fails(host, run, enabled):
    old = known("arm64", "/old/qemu-aarch64", "OC", enabled=enabled)
    host.handlers = [old]
    host.refused_once = {"qemu-aarch64"}
    result = run("arm64")
    assert "cannot register qemu-aarch64; nothing was changed" in result["msg"]
    assert host.handlers == [old]
    assert host.calls == [
        "register qemu-aarch64~multiarch",
        "remove qemu-aarch64",
        "register qemu-aarch64",
        "register qemu-aarch64",
        "remove qemu-aarch64~multiarch",
    ]


def test_what_was_done_is_taken_back_when_a_later_platform_fails(host, run):
    old = known("arm64", "/old/qemu-aarch64", "OC", enabled=False)
    host.handlers = [old]
    host.refused = {"qemu-s390x"}
    result = run("arm64", "s390x")
    assert "register qemu-s390x: No space left on device" in result["msg"].replace("[Errno 28] ", "")
    assert "taken back: register qemu-aarch64 again" in result["msg"]
    assert host.handlers == [old]
    assert not (host.tmp_path / "etc").exists()


def test_a_file_that_cannot_be_written_takes_the_registration_back(host, run):
    (host.tmp_path / "etc").write_text("no directory")
    result = run("arm64")
    assert result.failed
    assert "taken back: register qemu-aarch64" in result["msg"]
    assert host.handlers == []


@pytest.mark.parametrize("state", ["on", "off"])
def test_a_read_only_kernel_is_one_clear_error_before_any_change(host, state, run_module):
    host.state, host.writable = state, False
    for check in (True, False):
        result = run_module(binfmt_qemu, {"platforms": ["arm64"]}, check=check)
        assert "register cannot be written, and this is to be done:" in result["msg"]
        assert "become: true" in result["msg"]
    assert host.calls == []
    assert not (host.tmp_path / "etc").exists()


def test_a_read_only_kernel_with_all_that_is_wished_is_fine(host, declare):
    host.handlers, host.writable = [known("arm64", host.wrapper("arm64"))], False
    assert not declare("arm64", persistent=False)["changed"]


def test_a_user_without_rights_is_told_before_mount_is_tried(host, monkeypatch, run):
    host.state = "not mounted"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "run it as root" in run("arm64")["msg"]
    assert host.state == "not mounted"


def test_a_kernel_whose_module_is_not_loaded_gets_it(host, monkeypatch, run):
    host.state = "not loaded"
    asked = []
    monkeypatch.setattr(
        kernel_write, "load", lambda *, dry=False: asked.append(dry) or (dry or setattr(host, "state", "not mounted"))
    )
    result = run("arm64")
    assert result["steps"][:2] == ["load the kernel module binfmt_misc", f"mount {kernel.ROOT}"]
    assert asked[-1] is False
    assert result["platforms"][0]["verified"]


def test_without_verify_nothing_is_executed(host, declare, monkeypatch):
    executed = []

    def run(architecture, _look=None, *, unseen=False):
        # What the CPU runs itself is decided by executing: not QEMU.
        return Run(None, "Exec format error") if unseen else executed.append(architecture)

    monkeypatch.setattr(probe, "run", run)
    result = declare("arm64", "arm", verify=False)
    assert executed == []
    assert [report["verified"] for report in result["platforms"]] == [None, None]


def test_absent_executes_nothing_and_needs_no_qemu(host, declare, monkeypatch):
    host.handlers = [known("arm64", "/gone/qemu"), known("arm64", "/x/qemu-arm64", name="my-arm"), known("arm", "/q")]
    unseen = Run(None, "Exec format error")
    monkeypatch.setattr(probe, "run", lambda *_unused, **options: unseen if options else pytest.fail("executed"))
    assert declare("arm64", state="absent")["steps"] == ["remove qemu-aarch64", "remove my-arm"]
    assert [handler.name for handler in host.handlers] == ["qemu-arm"]


def test_all_the_missing_qemus_are_named_at_once(host, run):
    for name in ARCHITECTURES:
        os.unlink(host.wrapper(name))
    message = run("arm64", "arm", "s390x")["msg"]
    assert "linux/arm64" in message
    assert "linux/s390x" in message
    assert message.count("install the package qemu-user-static") == 1


@pytest.mark.parametrize(
    ("platforms", "told"),
    [
        ([], "the list of platforms is empty"),
        ([""], "the list of platforms is empty"),
        (["linux/arm9"], "'linux/arm9' is not a platform; did you mean"),
        (["sparc"], "'sparc' is not a platform"),
        (["windows/amd64"], "a platform of windows"),
        (["linux/arm64/v7"], "is not a platform"),
        (["arm64;rm -rf /"], "is not a platform"),
    ],
)
def test_platforms_that_are_none_are_refused(host, platforms, told, run):
    result = run(*platforms)
    assert told in result["msg"]
    assert host.calls == []


def test_info_judges_each_handler_by_what_its_interpreter_needs(host, run_module):
    host.handlers = [
        known("arm64", host.wrapper("arm64"), "OCF"),
        known("s390x", host.wrapper("s390x"), "POF"),
        known("riscv64", host.wrapper("riscv64"), "PO", enabled=False),
        known("ppc64le", "/usr/bin/other", name="late"),
        known("ppc64le", host.wrapper("ppc64le")),
    ]
    reports = {report["platform"]: report for report in run_module(binfmt_qemu_info, {})["platforms"]}
    assert len(reports) == len(ARCHITECTURES)
    assert any("swallows an argument" in problem for problem in reports["linux/arm64"]["problems"])
    assert reports["linux/s390x"]["problems"] == []  # Debian's choice of no C is a choice
    assert [problem.partition(":")[0] for problem in reports["linux/riscv64"]["problems"]][:2] == [
        "qemu-riscv64 is disabled",
        "qemu-riscv64 has no flag F, so it works neither in containers nor in chroots",
    ]
    assert reports["linux/ppc64le"]["name"] == "late"
    assert reports["linux/mips64"]["problems"] == ["there is no handler qemu-mips64"]
    assert reports["linux/amd64"]["native"]


@pytest.fixture
def broken(host, monkeypatch):
    """Break what packages do: by handler (the kernel's), by file (QEMU's own), and by the CPU itself."""
    found = {"handler": {}, "file": {}, "cpu": ""}

    def trouble(architecture, interpreter=None):
        host.deep.append((architecture.oci, interpreter))
        if interpreter is None and architecture.oci == by_machine(os.uname().machine).architecture:
            return found["cpu"]
        return found["file" if interpreter else "handler"].get(architecture.oci, "")

    host.deep = []
    monkeypatch.setattr(deep, "trouble", trouble)
    return found


def test_deep_tries_qemu_out_before_and_its_handler_after_the_change(host, broken, declare):
    result = declare("arm64", verify="deep")
    assert result["platforms"][0]["verified"]
    assert ("arm64", host.wrapper("arm64")) in host.deep
    assert ("arm64", None) in host.deep


def test_deep_of_what_is_there_executes_its_handler_alone(host, broken, run):
    host.handlers = [known("arm64", host.wrapper("arm64"))]
    run("arm64", verify="deep", persistent=False)
    assert host.deep == [("arm64", None)]


@pytest.mark.parametrize("verify", [True, "yes", 1, False, "off", 0])
def test_without_deep_no_deep_program_is_executed(host, broken, run, verify):
    assert run("arm64", verify=verify)["changed"]
    assert host.deep == []


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("how", ["file", "handler"])
def test_a_qemu_that_breaks_is_refused_with_the_step_before_anything_changes(host, broken, run_module, check, how):
    broken[how]["arm64"] = "threads: it ended by SIGSEGV"
    if how == "handler":
        host.handlers = [known("arm64", host.wrapper("arm64"))]
    result = run_module(binfmt_qemu, {"platforms": ["arm64", "arm"], "verify": "deep"}, check=check)
    assert result.failed
    assert "linux/arm64: threads: it ended by SIGSEGV: QEMU 10.0.13 does not run well" in result["msg"]
    assert "nothing was changed" in result["msg"]
    assert "source: image" in result["msg"]
    assert "linux/arm:" not in result["msg"]
    assert host.calls == []


def test_every_platform_that_breaks_is_named_at_once(host, broken, run):
    broken["file"].update(arm64="threads: futex", s390x="signals: a signal got lost")
    message = run("arm64", "arm", "s390x", verify="deep")["msg"]
    assert "linux/arm64: threads: futex" in message
    assert "linux/s390x: signals: a signal got lost" in message


def test_a_handler_that_breaks_when_it_is_there_is_taken_back(host, broken, run):
    old = known("arm64", "/old/qemu-aarch64", "OC")
    host.handlers = [old]
    broken["handler"]["arm64"] = "exec: a program that executes itself does not run"
    message = run("arm64", verify="deep")["msg"]
    assert "exec: a program that executes itself does not run" in message
    assert host.handlers == [old]


@pytest.mark.parametrize("check", [True, False])
def test_an_old_handler_that_breaks_is_replaced_by_a_qemu_that_does_not(host, broken, run_module, check, monkeypatch):
    old = known("arm64", "/old/qemu-aarch64", "OC")
    host.handlers = [old]

    def trouble(architecture, interpreter=None):
        return "heap: brk" if architecture.oci == "arm64" and not interpreter and host.handlers[0] == old else ""

    monkeypatch.setattr(deep, "trouble", trouble)
    result = run_module(binfmt_qemu, {"platforms": ["arm64"], "verify": "deep"}, check=check)
    assert result["changed"]


@pytest.mark.parametrize("check", [True, False])
def test_what_the_cpu_cannot_do_either_is_the_hosts_trouble(host, broken, run_module, check):
    broken["file"]["arm64"] = broken["cpu"] = "large files: ftruncate, error 27"
    result = run_module(binfmt_qemu, {"platforms": ["arm64"], "verify": "deep"}, check=check)
    assert "the CPU's own program fails as well: large files" in result["msg"]
    assert "does not run well" not in result["msg"]
    assert host.calls == []


def test_info_tells_the_step_and_what_to_do(host, broken, run_module):
    host.handlers = [known(name, host.wrapper(name)) for name in ("arm64", "arm")]
    broken["handler"]["arm64"] = "threads: it ended by SIGSEGV"
    result = run_module(binfmt_qemu_info, {"platforms": ["arm64", "arm"], "verify": "deep"})
    arm64, arm = result["platforms"]
    assert arm64["problems"][0].startswith("threads: it ended by SIGSEGV: QEMU 10.0.13 does not run well")
    assert "source: image" in arm64["problems"][0]
    assert (arm64["verified"], arm["verified"], arm["problems"]) == (False, True, [])


def test_info_does_not_blame_qemu_for_a_limit_of_the_host(host, broken, run_module):
    host.handlers = [known("arm64", host.wrapper("arm64"))]
    broken["handler"]["arm64"] = broken["cpu"] = "large files: ftruncate, error 27"
    (report,) = run_module(binfmt_qemu_info, {"platforms": ["arm64"], "verify": "deep"})["platforms"]
    assert report["verified"] is True
    assert "the CPU's own program fails as well" in report["problems"][0]


@pytest.mark.parametrize("verify", ["depe", "2", 2, [], {"deep": True}])
@pytest.mark.parametrize("module", [binfmt_qemu, binfmt_qemu_info])
@pytest.mark.parametrize("state", [{}, {"state": "absent"}])
def test_another_value_of_verify_is_refused_before_anything_changes(host, run_module, module, verify, state):
    state = state if module is binfmt_qemu else {}
    result = run_module(module, {"platforms": ["arm64"], "verify": verify, **state})
    assert "is not a value of verify; write true, false or deep" in result["msg"]
    assert host.calls == []


def test_a_version_that_is_known_to_break_is_a_warning_in_check_mode_too(host, run_module, monkeypatch):
    monkeypatch.setattr(qemu.Programs, "_ask", staticmethod(lambda _path: "9.2.2"))
    told = [
        run_module(module, {"platforms": ["arm64", "arm"]}, check=check)["warnings"]
        for module, check in ((binfmt_qemu, True), (binfmt_qemu, False), (binfmt_qemu_info, False))
    ]
    assert told[0] == told[1] == told[2]
    assert "QEMU 9.2.2 is known to break programs of linux/arm64" in str(told[0])
    assert len(told[0]) == 1
