# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A play of its own machine, and everything that somebody else could read of it: output, events, syslog, processes, files.

The play runs in a mount namespace in which /dev/log is a listener of the test, /etc, /usr/local, /var/lib and /run are its own,
and the programs that modules call are stand-ins, which say back all that they are given: what a module tells of a program's
words is what the program was given.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What is in every part of every secret.
MARK = "zq7"
# Programs that read what nobody else may know through their environment, which only their own user can read (proc(5)).
MAY_KNOW = ("git", "docker", "docker-buildx")
PROGRAMS = (
    *(
        "docker",
        "dockerd",
        "git",
        "systemctl",
        "systemd-run",
        "systemd-analyze",
        "update-binfmts",
        "kubectl",
        "buildkitd",
    ),
    *("buildctl", "apt-get", "apt-cache", "dpkg-query", "ssh", "curl", "setfattr", "loginctl", "useradd", "journalctl"),
)
PARROT = """\
#!{python} -IS
import os, sys
name = os.path.basename(sys.argv[0])
with open({record!r} + "/%d-%s" % (os.getpid(), name), "w", errors="surrogateescape") as file:
    file.write("ARGV " + "\\0".join(sys.argv) + "\\n")
    file.write("ENVIRON " + "\\0".join("%s=%s" % pair for pair in os.environ.items()) + "\\n")
if {says}:
    print(name, sys.argv, dict(os.environ), file=sys.stderr)
    print(name, " ".join(sys.argv))
sys.exit({code})
"""
SCRIPT = """\
set -e
mkdir "$LAB/dev" "$LAB/upper"
mount -t tmpfs none "$LAB/dev"
for device in null zero full random urandom tty; do touch "$LAB/dev/$device"; mount --bind "/dev/$device" "$LAB/dev/$device"; done
mkdir "$LAB/dev/pts" "$LAB/dev/shm"
mount --rbind /dev/pts "$LAB/dev/pts"
mount -t tmpfs none "$LAB/dev/shm"
ln -s pts/ptmx "$LAB/dev/ptmx"
ln -s /proc/self/fd "$LAB/dev/fd"
for number in 0 1 2; do ln -s "/proc/self/fd/$number" "$LAB/dev/std$(echo in out err | cut -d' ' -f$((number + 1)))"; done
touch "$LAB/dev/log"
mount --bind "$LAB/log.socket" "$LAB/dev/log"
mount --rbind "$LAB/dev" /dev
mount -t tmpfs none "$LAB/upper"
for place in etc usr/local var/lib; do
    mkdir -p "$LAB/upper/$place" "$LAB/upper/.work/$place"
    mount -t overlay none -o "lowerdir=/$place,upperdir=$LAB/upper/$place,workdir=$LAB/upper/.work/$place" "/$place"
done
mount --bind "$LAB/left/run" /run
code=0
"$@" || code=$?
mkdir "$LAB/machine"
for place in etc usr/local var/lib; do mkdir -p "$LAB/machine/$place"; cp -a "$LAB/upper/$place/." "$LAB/machine/$place/" 2>/dev/null || :; done
exit $code
"""


@dataclass
class Seen:
    """What a play showed and left, by the place where it did."""

    output: str
    code: int
    sinks: dict[str, str] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)

    def leaks(self, mark: str = MARK) -> list[str]:
        """Return where a mark shows, with a few words around it."""
        found = []
        for place, text in {"output": self.output, **self.sinks}.items():
            at = text.find(mark)
            while at != -1:
                found.append(f"{place}: {text[max(at - 150, 0) : at + 50]!r}")
                at = text.find(mark, at + 50)
        return found


class Machine:
    """A directory in which plays run, and which keeps what they leave."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.left = directory / "left"
        for name in ("home", "tmp", "local", "remote", "run", "facts", "artifacts", "record"):
            (self.left / name if name != "record" else directory / name).mkdir(parents=True)

    def programs(self, *, fail: bool, says: bool = True) -> Path:
        """Return a directory of stand-ins, which end well or badly and say back what they are given."""
        place = self.directory / ("bad" if fail else "good")
        if not place.exists():
            place.mkdir()
            values = {"python": sys.executable, "record": str(self.directory / "record"), "code": int(fail)}
            for name in PROGRAMS:
                (place / name).write_text(PARROT.format(says=says, **values))
                (place / name).chmod(0o755)
        return place

    def play(
        self, plays: list[dict[str, object]], variables: dict[str, object], *, fail: bool, more: tuple[str, ...] = ()
    ) -> Seen:
        """Run plays at -vvvvv with the variables; return all that they showed and left."""
        given = self.directory / "given"
        given.mkdir(exist_ok=True)
        (given / "play.yml").write_text(json.dumps(plays))
        (given / "variables.json").write_text(json.dumps(variables))
        logged: list[bytes] = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log, Watch(self.directory) as watch:
            log.bind(str(self.directory / "log.socket"))
            log.settimeout(0.1)
            done = threading.Event()
            listener = threading.Thread(target=_listen, args=(log, logged, done))
            listener.start()
            playbook = str(Path(sys.executable).parent / "ansible-playbook")
            command = [playbook, "-vvvvv", "--diff", *more, "-e", f"@{given}/variables.json", str(given / "play.yml")]
            ran = subprocess.run(
                ["unshare", "--mount", "--propagation", "private", "bash", "-c", SCRIPT, "bash", *command],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                env=self._environment(self.programs(fail=fail)),
            )
            done.set()
            listener.join()
        (self.directory / "log.socket").unlink()
        seen = Seen(ran.stdout + ran.stderr, ran.returncode)
        seen.sinks["syslog"] = b"\n".join(logged).decode("utf-8", "replace")
        seen.sinks["processes"] = watch.seen()
        for path in (self.directory / "record").iterdir():
            argv, _newline, environ = path.read_text(errors="replace").partition("\nENVIRON ")
            seen.called.append(argv)
            program = path.name.partition("-")[2]
            seen.sinks[f"argv of {path.name}"] = argv
            seen.sinks[f"environment of {path.name}"] = "" if program in MAY_KNOW else environ
            path.unlink()
        for path in sorted(self.left.rglob("*")):
            if path.is_file() and not path.is_symlink():
                seen.sinks[f"left: {path.relative_to(self.left)}"] = path.read_text(errors="replace")
        machine = self.directory / "machine"
        for path in sorted(machine.rglob("*")):
            # What is declared stands in its files; a temporary one is nobody's.
            if path.name.startswith((".multiarch", "multiarch.drone.", ".ansible", "tmp")) and path.is_file():
                seen.sinks[f"left: {path.relative_to(machine)}"] = path.read_text(errors="replace")
        shutil.rmtree(machine, ignore_errors=True)
        for name in ("dev", "upper"):
            (self.directory / name).rmdir()
        return seen

    def _environment(self, programs: Path) -> dict[str, str]:
        ours = {
            name: value for name, value in os.environ.items() if not name.startswith(("DRONE_", "DOCKER_", "ANSIBLE_"))
        }
        return {
            **{name: value for name, value in ours.items() if "proxy" not in name.lower()},
            "LAB": str(self.directory),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self.left / "home"),
            "TMPDIR": str(self.left / "tmp"),
            "ANSIBLE_LOCAL_TEMP": str(self.left / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.left / "remote"),
            "ANSIBLE_LOG_PATH": str(self.left / "log"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "artifacts",
            "ARTIFACTS": str(self.left / "artifacts"),
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.left / "facts"),
            "ANSIBLE_RETRY_FILES_ENABLED": "1",
            "ANSIBLE_RETRY_FILES_SAVE_PATH": str(self.left),
        }


class Watch:
    """What `ps auxe` would show of the processes of a play, looked at again and again; they are known by their environment."""

    def __init__(self, directory: Path) -> None:
        self._name = str(directory).encode()
        self._lines: dict[str, None] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._done.set()
        self._thread.join()

    def seen(self) -> str:
        return "\n".join(self._lines)

    def _look(self) -> None:
        others = set()
        while not self._done.is_set():
            for number in os.listdir("/proc"):
                if number.isdigit() and number not in others:
                    try:
                        environment = Path(f"/proc/{number}/environ").read_bytes()
                        argv = Path(f"/proc/{number}/cmdline").read_bytes().decode("utf-8", "replace")
                    except OSError:
                        continue
                    if self._name not in environment:
                        # What is not ours yet may be a child of this process that becomes the play.
                        if environment and argv and "pytest" not in argv:
                            others.add(number)
                        continue
                    environ = environment.decode("utf-8", "replace")
                    program = argv.split("\0")[0].rpartition("/")[2]
                    is_parrot = any(f"/{name}\0" in argv for name in MAY_KNOW)
                    self._lines[f"ARGV {argv}"] = None
                    if program not in MAY_KNOW and not is_parrot:
                        self._lines[f"ENVIRON of {program}: {environ}"] = None
            time.sleep(0.01)


def _listen(log: socket.socket, logged: list[bytes], done: threading.Event) -> None:
    while True:
        try:
            logged.append(log.recv(1 << 20))
        except TimeoutError:
            if done.is_set():
                return
