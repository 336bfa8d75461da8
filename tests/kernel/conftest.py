# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hosts of one test each: a binfmt_misc of their own, and file systems that keep what is written to themselves.

Since Linux 6.7 each user namespace may mount a binfmt_misc of its own, in which a handler does all that it does on the
machine. Over /usr, /etc, /var/lib and /run lie overlays, with Debian's QEMU packages unpacked into /usr.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.kernel import Handler
from ansible_collections.multiarch.drone.plugins.module_utils._platform import Platform

SYSTEMD_BINFMT = ("/usr/lib/systemd/systemd-binfmt", "/lib/systemd/systemd-binfmt")
ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / "build/collections"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
MODULES = "ansible_collections.multiarch.drone.plugins.modules"
PATCHED = """
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import kernel, probe
{}
from ansible_collections.multiarch.drone.plugins.modules.{} import main
main()
"""

SET_UP = r"""
set -e
over() { # DIRECTORY LOWER…: what is written to it from here on is ours
    directory=$1; shift
    mkdir -p "$scratch$directory/upper" "$scratch$directory/work"
    mount -t overlay overlay -o "userxattr,lowerdir=$(IFS=:; echo "$*"),upperdir=$scratch$directory/upper,workdir=$scratch$directory/work" "$directory"
}
scratch=$1; qemu=$2; support=$4
mount -t tmpfs tmpfs "$scratch"
mkdir -p "$scratch/run" && mount --rbind /run "$scratch/run"  # where the machine's Docker listens
over /usr ${qemu:+"$qemu/usr"} ${support:+"$support/usr"} /usr
over /etc /etc
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /etc/binfmt.d  # systemd's, which a minimal machine lacks
for unit in systemd-binfmt.service proc-sys-fs-binfmt_misc.automount; do
    [ -e /usr/lib/systemd/system/$unit ] || { mkdir -p /usr/lib/systemd/system; echo '[Unit]' >/usr/lib/systemd/system/$unit; }
done
rm -f /etc/binfmt.d/*
mount -t tmpfs tmpfs /proc/sys/fs/binfmt_misc  # the machine may have its own there, which nobody here may unmount
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
# What the machine registers is hidden from then on, mounted or not.
[ "$3" = mounted ] || umount /proc/sys/fs/binfmt_misc
if [ -n "$support" ]; then mkdir /var/lib/binfmts; update-binfmts --import; echo -1 >/proc/sys/fs/binfmt_misc/status; fi
echo ready
exec sleep infinity
"""


# A restart, in a user namespace below the host's: its binfmt_misc is empty as after a boot, and its files are the host's.
RESTART = r"""
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
[ "$(readlink -f /etc/systemd/system/systemd-binfmt.service)" = /dev/null ] || "$1" || :
! command -v update-binfmts >/dev/null || [ ! -d /var/lib/binfmts ] || update-binfmts --enable || :
cd /proc/sys/fs/binfmt_misc
for name in $(ls -U); do case $name in register|status) ;; *) echo "name $name"; cat "$name"; esac; done
"""


class Host:
    """A host with a kernel's binfmt_misc of its own."""

    def __init__(self, scratch: Path, release: str | None, mounted: bool, support: bool = False) -> None:
        self.qemu = qemu(release) if release else None
        packages = str(qemu("bookworm", "binfmt-support", "libpipeline1")) if support else ""
        mode = "mounted" if mounted else "unmounted"
        self._process = subprocess.Popen(
            [
                *("unshare", "--user", "--map-root-user", "--mount"),
                *("bash", "-c", SET_UP, "set-up", str(scratch), str(self.qemu or ""), mode, packages),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = self._process.stdout.readline()
        assert said == "ready\n", said + self._process.stdout.read()
        self.scratch = scratch

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, *command: str, stdin: str = "", check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the host."""
        return subprocess.run(
            ["nsenter", "--preserve-credentials", "--user", "--mount", "--target", str(self._process.pid), *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            env={
                **os.environ,
                "PYTHONPATH": str(COLLECTIONS),
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "PYTHONDONTWRITEBYTECODE": "1",
                **env,
            },
            cwd="/",
        )

    def sh(self, script: str, **env: str) -> str:
        """Run a shell script on the host, and return what it says."""
        return self.run("bash", "-euc", script, **env).stdout.strip()

    def module(
        self,
        name: str,
        prefix: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        patch: str = "",
        **options,
    ) -> dict:
        """Run a module on the host, as a process of its own, and return its result.

        `patch` is Python that is executed first, with the package's files as names.
        """
        for special in ("check_mode", "diff"):
            if special in options:
                options[f"_ansible_{special}"] = options.pop(special)
        done = self.run(
            *prefix,
            *(
                (sys.executable, "-c", PATCHED.format(patch, name))
                if patch
                else (sys.executable, "-m", f"{MODULES}.{name}")
            ),
            stdin=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
            check=False,
            **(env or {}),
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise AssertionError(done.stdout + done.stderr) from None

    def declare(self, *platforms: str, **options) -> dict:
        """Run binfmt_qemu: in check mode, for real, and again; what each of them promises is held here, for every test.

        Returns the result of the real run.
        """
        options = {"platforms": list(platforms), **options}
        before = self.state()
        predicted = self.module("binfmt_qemu", check_mode=True, diff=True, **options)
        assert "msg" not in predicted, predicted["msg"]
        assert self.state() == before, "check mode changed something"
        result = self.module("binfmt_qemu", diff=True, **options)
        assert "msg" not in result, result["msg"]
        for promise in ("changed", "steps", "diff"):
            assert predicted[promise] == result[promise]
        again = self.module("binfmt_qemu", diff=True, **options)
        assert (again.get("changed"), again.get("steps")) == (False, []), again
        assert again["platforms"] == result["platforms"]
        assert predicted["warnings"] == result["warnings"], "what a restart does was not predicted"
        self.hold_after_restart(result, options)
        return result

    def restart(self) -> list[Handler] | None:
        """Return the handlers that the kernel has after a restart, the newest first; None where no systemd is here."""
        binary = next(filter(os.path.exists, SYSTEMD_BINFMT), None)
        if binary is None:
            return None
        unshare = ("unshare", "--user", "--map-root-user", "--mount", "bash", "-c", RESTART, "restart", binary)
        texts = self.run(*unshare).stdout.split("name ")[1:]
        found = [Handler.from_kernel(*text.split("\n", 1)) for text in texts]
        return [handler for handler in found if handler]

    def hold_after_restart(self, result: dict, options: dict) -> None:
        """Hold what a restart makes of the handlers to what the module promised."""
        handlers = self.restart()
        if handlers is None:
            return
        wanted = set()
        for report in result["platforms"]:
            architecture = Platform.parse(report["platform"]).arch
            taking = next((handler for handler in handlers if handler.runs(architecture)), None)
            promised = (report["interpreter"], report["flags"]) if report["persistent"] else None
            found = (taking.interpreter, taking.flags) if taking else None
            if options.get("state") == "absent":
                back = taking is not None and taking.is_qemu and options.get("persistent", True)
                assert not back or report["problems"], f"{taking} is back"
            elif report["persistent"]:
                assert found == promised
                wanted.add(taking.name)
            elif options.get("persistent", True) and not report["native"]:
                assert report["problems"], f"{found} after a restart, and nothing was said"
        if options.get("exclusive") and options.get("persistent", True) and not result["warnings"]:
            assert {handler.name for handler in handlers if handler.is_qemu} <= wanted

    def state(self) -> str:
        """Return all that the module might change, as a text to compare."""
        script = "cd /proc/sys/fs/binfmt_misc; grep -r '' --exclude=register . | sort; cd /etc/binfmt.d; ls -l --full-time; grep -sr '' . | sort"
        return self.run("bash", "-c", script, check=False).stdout

    def handlers(self) -> dict[str, str]:
        """Return the text of each handler, by name."""
        names = self.sh("ls -U /proc/sys/fs/binfmt_misc").split()
        return {name: self.read(BINFMT / name) for name in names if name not in ("register", "status")}

    def read(self, path: Path | str) -> str:
        return self.run("cat", str(path)).stdout

    def register(self, name: str, interpreter: str, flags: str, magic: str, mask: str = "") -> None:
        """Register a handler by hand; magic and mask are in hexadecimal digits."""
        escaped = ["".join(f"\\x{byte:02x}" for byte in bytes.fromhex(text)) for text in (magic, mask)]
        line = f":{name}:M::{escaped[0]}:{escaped[1]}:{interpreter}:{flags}"
        self.run("bash", "-c", 'printf %s "$1" > /proc/sys/fs/binfmt_misc/register', "register", line)


def qemu(release: str, *packages: str) -> Path:
    """Return the directory of a Debian release's QEMU packages, or of others, unpacked."""
    return Path(subprocess.check_output([ROOT / "tests/tools/qemu-static", release, *packages], text=True).strip())


@pytest.fixture(scope="session", autouse=True)
def _private_binfmt_misc():
    """Skip these tests where the kernel gives user namespaces no binfmt_misc (before Linux 6.7), or no namespace."""
    probe = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && ! ls /proc/sys/fs/binfmt_misc | grep -q qemu"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", probe], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no private binfmt_misc here (it takes Linux 6.7 and user namespaces): {done.stderr.strip()}")


@pytest.fixture
def make_host(tmp_path):
    """Make hosts with the QEMU package of a Debian release, or with none."""
    hosts = []

    def make(release: str | None = "bookworm", *, mounted: bool = True, support: bool = False) -> Host:
        scratch = tmp_path / f"host{len(hosts)}"
        scratch.mkdir()
        hosts.append(Host(scratch, release, mounted, support))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def host(make_host):
    """A Debian 12 with qemu-user-static, whose kernel has no handler yet."""
    return make_host()


@pytest.fixture
def image(tmp_path):
    """Make images of a Debian release's QEMU, all under one reference, which is removed at the end."""
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker here")
    reference = f"multiarch.test/qemu-{os.getpid()}:{tmp_path.name.lower()[-20:]}"
    root = tmp_path / "image"

    def make(release):
        shutil.rmtree(root, ignore_errors=True)
        (root / "usr/bin").mkdir(parents=True)
        static = qemu(release) / "usr/bin/qemu-aarch64-static"
        shutil.copy(static, root / "usr/bin/qemu-aarch64")  # as tonistiigi/binfmt names it
        subprocess.run(f"tar -C {root} -c . | docker import - {reference}", shell=True, check=True, capture_output=True)
        return reference

    yield make
    subprocess.run(["docker", "image", "rm", "--force", reference], capture_output=True)
