# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""binfmt_qemu on the real kernel. `host.declare` also holds each call to its check mode and to its second run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.elf import program
from ansible_collections.multiarch.drone.plugins.module_utils._platform import ARCHITECTURES, by_machine

pytestmark = pytest.mark.kernel

ARM64 = "7f454c460201010000000000000000000200b700", "ffffffffffffff00fffffffffffffffffeffffff"
BINFMT = "/proc/sys/fs/binfmt_misc"
WRAPPER = "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"
PLAIN = "/usr/bin/qemu-aarch64-static"
FOREIGN = [name for name in ARCHITECTURES if name not in ("amd64", "386", by_machine(os.uname().machine).architecture)]

INITIAL = "kernel.in_initial_namespace = lambda: True"


def first(result):
    """Return the report of the first platform."""
    return result["platforms"][0]


def test_a_bare_host_learns_to_run_a_platform(host):
    result = host.declare("linux/arm64")
    assert result["steps"] == ["register qemu-aarch64", "write /etc/binfmt.d/qemu-aarch64.conf"]
    assert first(result) == {
        "platform": "linux/arm64",
        "native": False,
        "inherited": False,
        "name": "qemu-aarch64",
        "interpreter": WRAPPER,
        "flags": "POCF",
        "credentials": True,
        "enabled": True,
        "version": first(result)["version"],
        "kernel_version": first(result)["version"],
        "persistent": True,
        "verified": True,
        "problems": [],
    }
    assert first(result)["version"].startswith("7.2.")


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_every_platform_that_a_release_has_a_qemu_for_runs(make_host, release):
    host = make_host(release)
    result = host.declare("all")
    for report in result["platforms"]:
        assert report["verified"], report
        assert report["native"] or report["flags"] == "POCF", report
    assert {report["platform"] for report in result["platforms"] if report["native"]} >= {"linux/amd64"}


def test_an_emulated_program_gets_its_arguments_and_its_own_name(host):
    host.declare("arm64")
    path = host.scratch / "argc"
    host.run(
        "python3", "-c", f"open({str(path)!r}, 'wb').write(bytes.fromhex('{program(ARCHITECTURES['arm64']).hex()}'))"
    )
    host.sh(f"chmod 755 {path}")
    assert host.run(str(path), "a", "b", "c", check=False).returncode == 4


def test_what_people_type_and_variants_that_share_a_handler_are_one_registration(host):
    result = host.declare("arm64,arm,aarch64", "linux/arm/v6", "armhf")
    assert [report["platform"] for report in result["platforms"]] == ["linux/arm64", "linux/arm/v7", "linux/arm/v6"]
    assert sorted(host.handlers()) == ["qemu-aarch64", "qemu-arm"]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="a CPU that may run 32-bit programs itself")
def test_what_the_cpu_runs_itself_is_native_and_never_registered(host):
    result = host.declare("linux/amd64", "linux/386")
    assert not result["changed"]
    assert [(report["native"], report["name"], report["verified"]) for report in result["platforms"]] == [
        (True, None, True)
    ] * 2
    assert host.handlers() == {}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="a CPU that may run 32-bit programs itself")
def test_a_handler_in_the_cpus_way_is_told_and_goes_when_exclusive(host):
    magic = "7f454c4601010100000000000000000002000300", "fffffffffffefe00fffffffffffffffffeffffff"
    host.register("qemu-i386", "/usr/bin/qemu-i386-static", "OCF", *magic)
    result = host.declare("386")
    assert not result["changed"]
    assert first(result)["native"]
    assert "that the CPU runs itself" in first(result)["problems"][0]
    assert host.declare("386", exclusive=True)["steps"][0] == "remove qemu-i386"


# What goes wrong, one test each: the handler as it is found, and what the report says of it.
BROKEN = {
    "disabled": ("POCF", WRAPPER, *ARM64, "is disabled"),
    "without F": ("POC", WRAPPER, *ARM64, "has no flag F"),
    "without C": ("POF", WRAPPER, *ARM64, "has no flag C"),
    "without P, which the wrapper expects": ("OCF", WRAPPER, *ARM64, "swallows an argument"),
    "of a QEMU elsewhere": ("POCF", PLAIN, *ARM64, f"runs {PLAIN}"),
    "with a mask that also takes programs of riscv64": (
        "POCF",
        WRAPPER,
        ARM64[0],
        "ffffffffffffff00fffffffffffffffffeffbbff",
        "do not fit",
    ),
    "with another architecture's magic": (
        "POCF",
        WRAPPER,
        "7f454c460201010000000000000000000200f300",
        ARM64[1],
        "do not fit",
    ),
    "for programs without IFUNC alone": ("POCF", WRAPPER, ARM64[0], "ff" * 16 + "feffffff", "do not fit"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_handler_is_seen_and_mended(host, fault):
    flags, interpreter, magic, mask, told = BROKEN[fault]
    host.register("qemu-aarch64", interpreter, flags, magic, mask)
    if fault == "disabled":
        host.sh("echo 0 > /proc/sys/fs/binfmt_misc/qemu-aarch64")
    result = host.declare("arm64")
    assert told in result["steps"][0]
    assert first(result)["verified"]
    assert (first(result)["interpreter"], first(result)["flags"]) == (WRAPPER, "POCF")
    assert list(host.handlers()) == ["qemu-aarch64"]


def test_a_handler_in_other_words_is_as_good(host):
    host.register("qemu-aarch64", WRAPPER, "CFP", *ARM64)
    rule = r":qemu-aarch64:M:0:\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    rule += r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:" + WRAPPER + ":FPC"
    host.sh(f"printf '%s\\n' '# by hand' '{rule}' > /etc/binfmt.d/qemu-aarch64.conf")
    result = host.declare("arm64")
    assert not result["changed"]
    assert first(result)["persistent"]


@pytest.mark.parametrize("verify", [True, False])
def test_a_handler_that_was_registered_later_and_wins_loses_again(host, verify):
    host.register("qemu-aarch64", WRAPPER, "POCF", *ARM64)
    host.register("zz-other", "/bin/true", "F", *ARM64)
    result = host.declare("arm64", verify=verify)
    assert "zz-other was registered later and takes its programs" in result["steps"][0]
    assert next(iter(host.handlers())) == "qemu-aarch64"
    assert "zz-other" in host.handlers()  # it is nobody's of ours


def test_a_wrong_interpreter_that_ends_well_is_no_emulator(host):
    host.register("other", "/bin/true", "F", *ARM64)
    (report,) = host.module("binfmt_qemu_info", platforms=["arm64"])["platforms"]
    assert report["verified"] is False
    assert "ends with 0 instead of 3" in report["problems"][-1]


def test_an_old_registration_of_tonistiigi_is_replaced(host):
    host.sh(f"cp {PLAIN} /usr/bin/qemu-aarch64")
    host.register("qemu-aarch64", "/usr/bin/qemu-aarch64", "CF", *ARM64)
    host.sh("rm /usr/bin/qemu-aarch64")
    result = host.declare("arm64")
    assert first(result)["interpreter"] == WRAPPER
    assert first(result)["verified"]


def upgrade(host, make_host, other="trixie"):
    """Put another release's QEMU in place of the one that is there, as a package manager does."""
    new = make_host(other).qemu / "usr/bin/qemu-aarch64"
    host.sh(f"cp {new} {PLAIN}.dpkg-new && mv {PLAIN}.dpkg-new {PLAIN}")


def test_an_upgraded_qemu_is_found_stale_in_the_kernel_and_registered_again(host, make_host):
    host.declare("arm64")
    upgrade(host, make_host)
    (report,) = host.module("binfmt_qemu_info", platforms=["arm64"])["platforms"]
    assert report["version"].startswith("10.")
    assert report["kernel_version"].startswith("7.2.")
    assert report["verified"] is False
    result = host.declare("arm64")
    assert "the kernel runs an old QEMU 7.2." in result["steps"][0]
    assert first(result)["kernel_version"].startswith("10.")


def test_without_verify_an_upgrade_stays_unseen_and_nothing_is_claimed(host, make_host):
    host.declare("arm64")
    upgrade(host, make_host)
    result = host.declare("arm64", verify=False)
    assert not result["changed"]
    assert (first(result)["verified"], first(result)["kernel_version"]) == (None, None)


def test_a_qemu_that_was_written_anew_with_the_same_content_is_not_stale(host):
    host.declare("arm64")
    host.sh(f"cp {PLAIN} {PLAIN}.new && mv {PLAIN}.new {PLAIN}")
    assert not host.declare("arm64")["changed"]


def test_a_second_host_of_the_kernel_takes_no_handlers_from_the_first(host):
    host.declare("arm64")
    own_files = (
        f"mount -t tmpfs tmpfs /etc/binfmt.d; cp {PLAIN} /run/other; mount --bind /run/other {PLAIN}; "
        'mount -t tmpfs tmpfs /run; exec "$@"'
    )
    second = ("unshare", "--mount", "bash", "-euc", own_files, "host")
    result = host.module("binfmt_qemu", prefix=second, platforms=["arm64"])
    assert result["steps"] == ["write /etc/binfmt.d/qemu-aarch64.conf"]
    assert first(result)["verified"]


@pytest.mark.parametrize("mounted", [True, False])
def test_hosts_at_once_agree_on_one_handler(host, mounted):
    # Each in a mount namespace of its own, as containers are; what differs is whether binfmt_misc is mounted there yet.
    enter = ["unshare", "--mount", "bash", "-euc", ("" if mounted else f"umount {BINFMT}; ") + 'exec "$@"', "host"]
    script = "import json,subprocess,sys; " + (
        "p=[subprocess.Popen(sys.argv[2:],stdin=-1,stdout=-1) for i in range(4)]; "
        "[q.stdin.write(sys.argv[1].encode()) and q.stdin.close() for q in p]; "
        "print(json.dumps([json.loads(q.stdout.read()) for q in p]))"
    )
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {"platforms": ["arm64", "arm", "s390x"], "persistent": False}})
    module = "ansible_collections.multiarch.drone.plugins.modules.binfmt_qemu"
    ran = host.run(sys.executable, "-c", script, arguments, *enter, sys.executable, "-m", module)
    results = json.loads(ran.stdout)
    assert [result.get("msg") for result in results] == [None] * 4
    registered = [any(step.startswith("register") for step in result["steps"]) for result in results]
    assert sorted(registered) == [False] * 3 + [True]
    assert all(report["verified"] for result in results for report in result["platforms"])


def test_binfmt_misc_that_is_switched_off_is_switched_on(host):
    host.declare("arm64")
    host.sh("echo 0 > /proc/sys/fs/binfmt_misc/status")
    result = host.declare("arm64")
    assert result["steps"][0] == "switch binfmt_misc on"
    assert first(result)["verified"]


def test_binfmt_misc_that_is_not_mounted_is_mounted(make_host):
    host = make_host(mounted=False)
    result = host.declare("arm64")
    assert result["steps"][0] == "mount /proc/sys/fs/binfmt_misc"
    assert first(result)["verified"]


def test_handlers_of_an_unmounted_binfmt_misc_are_seen(host):
    host.declare("arm64", "arm")
    # Another host of the kernel keeps it mounted.
    elsewhere = "umount /proc/sys/fs/binfmt_misc; " + 'exec "$@"'
    prefix = ("unshare", "--mount", "bash", "-euc", elsewhere, "host")
    # As on the machine itself, where a mount to look by does no harm.
    options = {"platforms": ["arm64"], "diff": True, "exclusive": True, "patch": INITIAL}
    predicted = host.module("binfmt_qemu", prefix=prefix, check_mode=True, **options)
    result = host.module("binfmt_qemu", prefix=prefix, **options)
    assert predicted["steps"] == result["steps"]
    assert result["steps"][:2] == ["mount /proc/sys/fs/binfmt_misc", "remove qemu-arm"]


def test_exclusive_removes_other_qemus_and_nothing_else(host):
    host.declare("arm64", "arm", "s390x")
    host.register("python3.11", "/usr/bin/python3.11", "", "a70d0d0a")
    host.register("wine", "/bin/true", "", "4d5a")
    host.register("box64", "/bin/true", "", *ARM64)
    host.declare("arm64")
    result = host.declare("arm64", exclusive=True)
    assert result["steps"][:2] == ["remove qemu-s390x", "remove qemu-arm"]
    assert sorted(host.handlers()) == ["box64", "python3.11", "qemu-aarch64", "wine"]
    # Debian 12 ships a file for each of 28 targets: at boot they would be back.
    assert host.sh("readlink /etc/binfmt.d/qemu-alpha.conf") == "/dev/null"
    assert host.sh("readlink /etc/binfmt.d/qemu-arm.conf") == "/dev/null"
    assert "python" not in host.sh("ls /etc/binfmt.d")


def test_absent_removes_the_handler_and_keeps_the_package_from_bringing_it_back(host):
    host.declare("arm64", "arm")
    result = host.declare("arm64", state="absent")
    assert result["steps"] == ["remove qemu-aarch64", "link to /dev/null /etc/binfmt.d/qemu-aarch64.conf"]
    assert sorted(host.handlers()) == ["qemu-arm"]
    assert host.sh("readlink /etc/binfmt.d/qemu-aarch64.conf") == "/dev/null"
    assert (first(result)["name"], first(result)["persistent"]) == (None, False)
    result = host.declare("arm64")
    assert result["steps"] == ["register qemu-aarch64", "write /etc/binfmt.d/qemu-aarch64.conf"]
    assert WRAPPER in host.read("/etc/binfmt.d/qemu-aarch64.conf")
    assert host.sh("test ! -L /etc/binfmt.d/qemu-aarch64.conf && stat -c %a:%U /etc/binfmt.d/qemu-aarch64.conf") == (
        "644:root"
    )


def test_absent_where_no_package_has_such_a_file_just_removes_ours(make_host):
    host = make_host(None)
    host.sh(f"mkdir /run/qemu && cp {make_host().qemu}/usr/bin/qemu-aarch64-static /run/qemu/")
    host.declare("arm64", source="path", path="/run/qemu")
    result = host.declare("arm64", state="absent")
    assert result["steps"] == ["remove qemu-aarch64", "remove /etc/binfmt.d/qemu-aarch64.conf"]
    assert host.sh("ls -A /etc/binfmt.d") == ""


def test_absent_needs_neither_qemu_nor_a_handler(make_host):
    host = make_host(None)
    assert not host.declare("all", state="absent")["changed"]


def test_files_are_not_touched_unless_handlers_are_to_persist(host):
    host.declare("arm64", persistent=False)
    host.declare("arm64", persistent=False, exclusive=True)
    host.declare("arm64", persistent=False, state="absent")
    assert host.sh("ls -A /etc/binfmt.d") == ""


def test_after_systemd_has_applied_the_files_nothing_is_to_do(host):
    binary = "/usr/lib/systemd/systemd-binfmt"
    if host.run("test", "-x", binary, check=False).returncode:
        pytest.skip("no systemd-binfmt here")
    host.declare("arm64", "arm")
    host.sh(binary)
    assert "qemu-alpha" in host.handlers()  # it did something
    result = host.declare("arm64", "arm")
    assert not result["changed"]
    host.declare("arm64", state="absent")
    host.sh(binary)
    assert "qemu-aarch64" not in host.handlers()


def test_a_qemu_of_a_directory_runs(host, make_host):
    trixie = make_host("trixie").qemu
    result = host.declare("arm64", source="path", path=f"{trixie}/usr/bin")
    assert first(result)["version"].startswith("10.")
    assert first(result)["interpreter"] == f"{trixie}/usr/bin/qemu-aarch64-static"
    assert first(result)["flags"] == "POCF"


def test_without_credentials_flag_c_goes(host):
    host.declare("arm64")
    result = host.declare("arm64", credentials=False)
    assert "has flag C, unasked" in result["steps"][0]
    assert (first(result)["flags"], first(result)["credentials"]) == ("POF", False)


def test_a_qemu_that_does_not_work_leaves_the_old_one_in_place(host):
    host.declare("arm64")
    before = host.handlers()
    # Static, an ELF file of this CPU, and no QEMU.
    host.sh("mkdir /run/bad && cp /usr/bin/qemu-arm-static /run/bad/qemu-aarch64")
    result = host.module("binfmt_qemu", platforms=["arm64"], source="path", path="/run/bad")
    assert "a program for it ends with" in result["msg"]
    assert "nothing was changed" in result["msg"]
    assert host.handlers() == before


def test_an_argument_that_an_interpreter_swallows_is_refused(host):
    # The wrapper's name makes QEMU expect flag P; under another name this is found only by executing it.
    host.sh("mkdir /run/odd && ln -s /usr/bin/qemu-aarch64-static /run/odd/qemu-aarch64-binfmt-P")
    host.register("qemu-aarch64", "/run/odd/qemu-aarch64-binfmt-P", "OCF", *ARM64)
    (report,) = host.module("binfmt_qemu_info", platforms=["arm64"])["platforms"]
    assert report["verified"] is False
    assert "an argument of each program is swallowed: flag P does not fit the interpreter" in report["problems"]


def test_one_platform_that_fails_takes_the_others_back(host):
    host.sh(
        "mkdir /run/bad && cp /usr/bin/qemu-arm-static /run/bad/ && cp /usr/bin/qemu-arm-static /run/bad/qemu-s390x"
    )
    result = host.module("binfmt_qemu", platforms=["arm", "s390x"], source="path", path="/run/bad")
    assert "taken back: register qemu-arm" in result["msg"]
    assert host.handlers() == {}
    assert host.sh("ls -A /etc/binfmt.d") == ""


def test_a_stand_in_that_a_killed_run_left_is_cleared_away(host):
    host.register("qemu-aarch64~multiarch", WRAPPER, "POCF", *ARM64)
    result = host.declare("arm64")
    assert list(host.handlers()) == ["qemu-aarch64"]
    assert first(result)["verified"]


@pytest.mark.parametrize(
    ("prepare", "options", "told"),
    [
        ("", {"platforms": ["linux/arm9"]}, "did you mean linux/arm"),
        ("", {"platforms": []}, "the list of platforms is empty"),
        ("", {"platforms": ["windows/amd64"]}, "a platform of windows"),
        ("rm /usr/bin/qemu-aarch64-static", {}, "install the package qemu-user-static"),
        ("mkdir /run/q", {"source": "path", "path": "/run/q"}, "there is no static QEMU for linux/arm64 in /run/q"),
        ("", {"source": "path", "path": "/nowhere"}, "there is no static QEMU for linux/arm64 in /nowhere"),
        ("", {"source": "path"}, "source is path but all of the following are missing: path"),
        ("", {"source": "image"}, "source is image but all of the following are missing: image"),
        (
            "mkdir '/run/a b'; cp /usr/bin/qemu-aarch64-static '/run/a b'",
            {"source": "path", "path": "/run/a b"},
            "take no space",
        ),
        (
            "d=/run/$(printf 'x%.0s' {1..120}); mkdir $d; cp /usr/bin/qemu-aarch64-static $d",
            {"source": "path", "path": "/run/" + "x" * 120},
            "longer than the kernel's 127 bytes",
        ),
        ("mkdir /run/q; echo hi > /run/q/qemu-aarch64", {"source": "path", "path": "/run/q"}, "is not an ELF file"),
        ("mkdir /run/q; cp /bin/ls /run/q/qemu-aarch64", {"source": "path", "path": "/run/q"}, "is dynamic"),
        ("mkdir -p /run/q/qemu-aarch64", {"source": "path", "path": "/run/q"}, "Is a directory"),
        ("", {"state": "absent", "exclusive": True}, "means nothing"),
        ("", {"source": "image", "image": "--privileged"}, "is not a valid image reference"),
        ("mount -o bind,ro,remount /proc/sys/fs/binfmt_misc", {}, "cannot be written"),
    ],
)
def test_bad_input_is_told_before_any_change(host, prepare, options, told):
    host.sh(prepare)
    before = host.state()
    for check_mode in (True, False):
        result = host.module("binfmt_qemu", **{"platforms": ["arm64"], "check_mode": check_mode, **options})
        assert result.get("failed"), result
        assert told in result["msg"]
    assert host.state() == before


def test_a_qemu_of_an_image_is_kept_pinned_and_followed(host, image):
    docker = {"DOCKER_HOST": f"unix://{host.scratch}/run/docker.sock"}
    options = {"source": "image", "image": image("bookworm"), "env": docker}
    result = host.declare("arm64", **options)
    kept = first(result)["interpreter"]
    assert kept.startswith("/var/lib/multiarch.drone/qemu/multiarch.test_qemu-")
    assert result["steps"] == [
        f"take qemu-aarch64 out of {options['image']}",
        "register qemu-aarch64",
        "write /etc/binfmt.d/qemu-aarch64.conf",
    ]
    assert first(result)["kernel_version"].startswith("7.2.")
    image("trixie")  # the tag moves
    result = host.declare("arm64", **options)
    assert first(result)["kernel_version"].startswith("10.")
    assert result["steps"][0] == f"take qemu-aarch64 out of {options['image']}"
    missing = host.module("binfmt_qemu", platforms=["arm64", "s390x"], **options)
    assert f"image {options['image']} has no QEMU for linux/s390x" in missing["msg"]
    # What was taken out stays good without the image, and goes with the handler.
    subprocess.run(["docker", "image", "rm", "--force", options["image"]], capture_output=True, check=True)
    assert not host.declare("arm64", **options)["changed"]
    assert f"remove {kept}" in host.declare("arm64", state="absent", **options)["steps"]
    assert host.sh("ls /var/lib") == ""
    containers = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"ancestor={options['image']}"], capture_output=True
    )
    assert containers.stdout == b""


@pytest.mark.parametrize("fault", ["no such image", "a daemon that is down"])
def test_an_image_that_cannot_be_had_is_told_and_nothing_is_changed(host, image, fault):
    image("bookworm")  # Docker is there
    socket = "docker.sock" if fault == "no such image" else "nothing.sock"
    result = host.module(
        "binfmt_qemu",
        platforms=["arm64"],
        source="image",
        image="localhost:1/no/such:image",
        env={"DOCKER_HOST": f"unix://{host.scratch}/run/{socket}"},
    )
    assert result["failed"]
    assert "docker pull" in result["msg"] or "start the daemon" in result["msg"]
    assert host.handlers() == {}


def test_the_role_makes_a_host_of_a_playbook(host, tmp_path):
    playbook = tmp_path / "site.yml"
    playbook.write_text(
        """
- hosts: localhost
  gather_facts: false
  roles:
    - role: multiarch.drone.qemu
      vars: {qemu_platforms: [arm64, s390x], qemu_packages: []}
  tasks:
    - multiarch.drone.binfmt_qemu_info:
      register: emulation
    - ansible.builtin.assert:
        that: "(emulation.platforms | selectattr('verified', 'true') | map(attribute='platform')) is superset(['linux/arm64', 'linux/s390x'])"
- hosts: localhost
  gather_facts: false
  roles:
    - role: multiarch.drone.qemu
      vars: {qemu_platforms: [all], qemu_packages: [], qemu_state: absent}
"""
    )
    play = [f"{os.path.dirname(sys.executable)}/ansible-playbook", "-i", "localhost,", "-c", "local", str(playbook)]
    play += ["-e", f"ansible_python_interpreter={sys.executable}"]
    env = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(tmp_path / "home")}
    done = host.run(*play, check=False, **env)
    assert "changed=2" in done.stdout, done.stdout + done.stderr
    assert "failed=0" in done.stdout
    assert host.handlers() == {}


# What a restart makes of it: `host.declare` holds every call of every test here to that, and these are the awkward ones.
JAR = ":jar:E::jar::/usr/bin/jexec:"
RULE = ":{name}:M::" + "".join(f"\\x{byte:02x}" for byte in bytes.fromhex(ARM64[0])) + "::{interpreter}:F"


def etc(host, name, text):
    """Write a file of an administrator."""
    host.run("bash", "-c", 'printf %s "$2" >/etc/binfmt.d/"$1"', "etc", name, text)


@pytest.mark.parametrize("indent", ["", "  ", "\t"])
@pytest.mark.parametrize("change", ["absent", "exclusive"])
def test_a_rule_beside_somebodys_own_does_not_come_back_and_theirs_stays(host, indent, change):
    theirs = f"# mine\n{indent}{JAR}\n"
    etc(host, "local.conf", indent + RULE.format(name="qemu-mine", interpreter=PLAIN) + f"\n{theirs}")
    result = host.declare("arm64", state="absent") if change == "absent" else host.declare("s390x", exclusive=True)
    assert "write /etc/binfmt.d/local.conf" in result["steps"]
    assert host.read("/etc/binfmt.d/local.conf") == theirs
    restarted = host.restart()
    assert restarted is None or not any(handler.name == "qemu-mine" for handler in restarted)


def test_an_administrators_rule_in_the_file_of_our_name_is_kept(host):
    etc(host, "qemu-aarch64.conf", f"{JAR}\n")
    host.declare("arm64")
    assert host.read("/etc/binfmt.d/qemu-aarch64.conf").startswith(f"{JAR}\n:qemu-aarch64:")
    host.declare("arm64", state="absent")
    assert host.read("/etc/binfmt.d/qemu-aarch64.conf") == f"{JAR}\n"


@pytest.mark.parametrize("name", ["qemu-aarch64", "local"])
def test_a_later_file_that_wins_after_a_restart_is_a_problem_beforehand(host, name):
    etc(host, "zz-local.conf", RULE.format(name=name, interpreter=PLAIN) + "\n")
    result = host.declare("arm64")
    assert not first(result)["persistent"]
    assert f"after a restart {name} of /etc/binfmt.d/zz-local.conf takes its programs" in first(result)["problems"][0]
    assert len(result["warnings"]) == len(first(result)["problems"]) == 1
    (report,) = host.module("binfmt_qemu_info", platforms=["arm64"])["platforms"]
    assert (report["persistent"], report["problems"]) == (False, first(result)["problems"])


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        ("ln -s /dev/null /etc/systemd/system/systemd-binfmt.service", "systemd-binfmt.service is masked"),
        ("rmdir /run/systemd/system", "neither systemd nor OpenRC"),
        ("rmdir /run/systemd/system; mkdir -p /run/openrc", "is in no runlevel"),
        (
            "d=/run/systemd/system/systemd-binfmt.service.d; mkdir -p $d; echo host >/run/systemd/container; "
            "printf '[Unit]\nConditionVirtualization=!container\n' >$d/x.conf",
            "ConditionVirtualization=!container does not hold here",
        ),
    ],
)
def test_a_host_that_applies_no_files_at_boot_is_told_beforehand(host, prepare, told):
    host.sh(prepare)
    result = host.declare("arm64")
    assert not first(result)["persistent"]
    assert "qemu-aarch64 is gone after a restart" in first(result)["problems"][0]
    assert told in first(result)["problems"][0]
    assert host.declare("arm64", persistent=False)["warnings"] == []


@pytest.mark.parametrize("state", ["present", "exclusive", "absent"])
def test_binfmt_support_does_not_undo_the_wish_after_a_restart(make_host, state):
    host = make_host(support=True)
    assert host.sh("ls /var/lib/binfmts")
    if state == "absent":
        result = host.declare("arm64", state="absent")
        assert "remove /var/lib/binfmts/qemu-aarch64" in result["steps"]
        return
    result = host.declare("arm64", exclusive=state == "exclusive")
    assert first(result)["persistent"]
    restarted = host.restart()
    if restarted is not None:
        assert any(handler.name == "qemu-arm" for handler in restarted) is (state == "present")


def test_binfmt_support_alone_brings_its_own_registration_back_and_that_is_told(make_host):
    host = make_host(support=True)
    host.sh("ln -s /dev/null /etc/systemd/system/systemd-binfmt.service")
    result = host.declare("arm64")
    assert (
        "after a restart qemu-aarch64 of /var/lib/binfmts/qemu-aarch64 takes its programs"
        in first(result)["problems"][1]
    )
    assert not first(result)["persistent"]


# A user namespace below the host's, as an unprivileged container is: it inherits the host's handlers.
CHILD = ("unshare", "--user", "--map-root-user", "--mount", "bash", "-euc")
BARE = f"mount -t tmpfs tmpfs {BINFMT}; "


@pytest.mark.parametrize("options", [{}, {"check_mode": True}, {"verify": False}, {"exclusive": True}])
def test_handlers_that_a_user_namespace_inherits_are_reported_and_kept(host, options):
    host.declare("arm64")
    path = host.scratch / "argc"
    path.write_bytes(program(ARCHITECTURES["arm64"]))
    script = "import json,subprocess,sys; " + (
        "r=[json.loads(subprocess.run(a,input=sys.argv[1],capture_output=True,text=True).stdout) for a in "
        "([sys.executable,'-m',sys.argv[2]+'binfmt_qemu_info'],[sys.executable,'-m',sys.argv[2]+'binfmt_qemu'])]; "
        "print(json.dumps([r, subprocess.run([sys.argv[3],'x']).returncode]))"
    )
    host.run(sys.executable, "-c", f"open({str(path)!r}, 'wb').write(bytes.fromhex('{path.read_bytes().hex()}'))")
    host.sh(f"chmod 755 {path}")
    special = {f"_ansible_{name}" if name == "check_mode" else name: value for name, value in options.items()}
    modules = "ansible_collections.multiarch.drone.plugins.modules."
    info = {"verify": options.get("verify", True), "platforms": ["arm64"]}
    ran = host.run(
        *(*CHILD, BARE + 'exec "$@"', "child", sys.executable, "-c", script),
        *(json.dumps({"ANSIBLE_MODULE_ARGS": {**info, **special}}), modules, str(path)),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    (told, result), status = json.loads(ran.stdout)
    if "exclusive" not in options and "check_mode" not in options:
        assert (told["binfmt_misc"], told["platforms"][0]["inherited"]) == ("not mounted", True)
        assert told["platforms"][0]["verified"]
        assert told["platforms"][0]["interpreter"]
    if "exclusive" not in options or "msg" not in result:
        assert (result["changed"], result["steps"], result["platforms"][0]["inherited"]) == (False, [], True)
    assert status == 2  # programs still run


def test_a_mount_that_would_hide_inherited_handlers_is_refused_unless_it_is_the_wish(host):
    host.declare("arm64", "arm")
    prefix = (*CHILD, BARE + 'exec "$@"', "child")
    for check_mode in (True, False):
        options = {"platforms": ["arm64", "s390x"], "persistent": False, "check_mode": check_mode}
        result = host.module("binfmt_qemu", prefix=prefix, **options)
        assert "linux/arm would not run any more" in result["msg"]
        result = host.module("binfmt_qemu", prefix=prefix, **options, exclusive=True)
        assert result["steps"] == [f"mount {BINFMT}", "register qemu-aarch64", "register qemu-s390x"]
    absent = host.module("binfmt_qemu", prefix=prefix, platforms=["arm64"], state="absent", persistent=False)
    assert absent["steps"] == []


def test_a_fifo_in_a_programs_or_a_files_place_does_not_hang(host):
    host.sh("mkdir /run/q; mkfifo /run/q/qemu-aarch64 /etc/binfmt.d/fifo.conf")
    for check_mode in (True, False):
        result = host.module("binfmt_qemu", platforms=["arm64"], source="path", path="/run/q", check_mode=check_mode)
        assert "/run/q/qemu-aarch64: Not a regular file" in result["msg"]


def test_troubles_of_the_probe_are_not_taken_for_those_of_qemu(host):
    # As with vm.memfd_noexec=2.
    forbidden = "import errno\ndef no(): raise PermissionError(errno.EACCES, 'Permission denied')\nprobe._memory = no"
    host.declare("arm64")
    # Not over /tmp: the checkout may be there.
    host.sh("mkdir -p /run/noexec && mount -t tmpfs -o noexec tmpfs /run/noexec")
    options = {"platforms": ["arm64"], "patch": f"{forbidden}\nprobe.DIRECTORIES = ('/run/noexec', *probe.DIRECTORIES)"}
    assert first(host.module("binfmt_qemu", **options))["verified"]
    blocked = f"{forbidden}\nprobe.DIRECTORIES = ('/run/noexec',)"
    result = host.module("binfmt_qemu", **{**options, "patch": blocked})
    assert (first(result)["verified"], result["changed"]) == (None, False)
    assert "this host executes none of ours" in first(result)["problems"][0]
    assert "/run/noexec/.multiarch.drone." in first(result)["problems"][0]
