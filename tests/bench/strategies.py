# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One Go program made for linux/arm64 by a real BuildKit: emulated, cross-compiled and native, with a cold and a warm cache.

The compiler is this machine's Go, which compiles itself for the other architecture. "Native" is the same program made for
this machine's own architecture: it stands for a node of the other one that is as fast as this machine. Of each build, the
quickest of ROUNDS counts, and those of the strategies take turns; emulated once, since that takes minutes.

  cold     the compiler has to make everything, Go's own packages too; it and its packages are at hand, as a base image is
  changed  one line of the program changed, and a cache mount holds what was compiled before
  warm     nothing changed, and BuildKit's cache holds each step
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from tests.bench.results import Results

TREE = Path(os.path.abspath(__file__)).parents[2]
sys.path.insert(0, str(TREE / "build/collections"))
ROUNDS = 2
HERE, OTHER = ("arm64", "amd64") if platform.machine() == "aarch64" else ("amd64", "arm64")
# Where the compiler runs, and for which architecture the image is.
STRATEGIES = {"emulated": ("TARGET", OTHER), "cross": ("BUILD", OTHER), "native": ("TARGET", HERE)}
PROGRAM = """package main
import "fmt"
func main() { fmt.Println("build", %d) }
"""
DOCKERFILE = """
FROM --platform=${where}PLATFORM scratch AS compiler
ARG {where}ARCH
COPY --from=go src /go
COPY --from=go ${where}ARCH /go
WORKDIR /tmp
WORKDIR /app

FROM compiler AS build
COPY . .
ARG TARGETARCH
ENV GOARCH=$TARGETARCH GOOS=linux CGO_ENABLED=0 GOTOOLCHAIN=local GOCACHE=/cache GOPATH=/tmp/go GOFLAGS=-trimpath HOME=/tmp
RUN --mount=type=cache,id={cache},target=/cache ["/go/bin/go", "build", "-o", "/sample", "."]

FROM scratch
COPY --from=build /sample /sample
"""


def main() -> int:
    """Measure, and print a line for each kind of build, without a limit: how fast an emulator is, is no promise of ours."""
    if os.geteuid() or not shutil.which("go") or not shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin"):
        print("skipped: this needs root, Go and runc")
        return 0
    results = Results("strategies")
    programs = Path(run(TREE / "tests/tools/buildkit"))
    with tempfile.TemporaryDirectory() as scratch, emulator(), buildkitd(programs, Path(scratch)) as address:
        compilers(Path(scratch) / "go")
        seconds = measure(Path(scratch), [programs / "buildctl", "--addr", address])
    for kind in ("cold", "changed", "warm"):
        results.told(f"native, {kind}", seconds["native", kind], None, "s")
        for name in STRATEGIES:
            if name != "native":
                results.told(f"{name} / native, {kind}", seconds[name, kind] / seconds["native", kind])
    return results.end()


def measure(scratch: Path, buildctl: list[str | Path]) -> dict[tuple[str, str], float]:
    """Return the seconds of each strategy's builds."""
    seconds: dict[tuple[str, str], float] = {}
    context = scratch / "app"
    context.mkdir()
    (context / "go.mod").write_text("module sample\n")

    def build(name: str, kind: str, target: str = "") -> None:
        where, architecture = STRATEGIES[name]
        dockerfile = DOCKERFILE.replace("{where}", where).replace("{cache}", f"{name}{number}")
        (context / "Dockerfile").write_text(dockerfile)
        started = time.perf_counter()
        run(
            *(*buildctl, "build", "--frontend", "dockerfile.v0", "--progress", "plain"),
            *("--local", f"context={context}", "--local", f"dockerfile={context}"),
            *("--local", f"go={scratch / 'go'}", "--opt", "context:go=local:go"),
            *("--opt", f"platform=linux/{architecture}", "--opt", f"target={target}"),
            *("--output", "type=image,name=sample"),
        )
        took = time.perf_counter() - started
        seconds[name, kind] = min(took, seconds.get((name, kind), took))

    for number in range(ROUNDS):
        for name in STRATEGIES:
            if number and name == "emulated":
                continue
            (context / "main.go").write_text(PROGRAM % (2 * number))
            build(name, "base", "compiler")
            build(name, "cold")
            (context / "main.go").write_text(PROGRAM % (2 * number + 1))
            build(name, "changed")
            build(name, "warm")
    return seconds


def compilers(directory: Path) -> None:
    """Lay out Go for both architectures, its packages once."""
    root = Path(run("go", "env", "GOROOT"))
    for part in ("src", "pkg/include"):
        shutil.copytree(
            root / part, directory / "src" / part, ignore=shutil.ignore_patterns("testdata", "*_test.go", "cmd")
        )
    for part in ("VERSION", "go.env"):
        shutil.copy(root / part, directory / "src" / part)
    for architecture in (HERE, OTHER):
        tools = f"{directory / architecture}/pkg/tool/linux_{architecture}/"
        settings = {"CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": architecture, "GOFLAGS": "-trimpath"}
        run("go", "build", "-o", f"{directory / architecture}/bin/", "cmd/go", env=settings)
        run("go", "build", "-o", tools, "cmd/compile", "cmd/link", "cmd/asm", env=settings)


@contextmanager
def emulator():
    """Let the kernel execute the other architecture as long as this lasts, unless it does already, in containers too."""
    from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.declare import declare

    handler = Path("/proc/sys/fs/binfmt_misc", f"qemu-{'aarch64' if OTHER == 'arm64' else 'x86_64'}")
    if handler.exists() and re.search(r"^flags:.*F", handler.read_text(), re.MULTILINE):
        yield
        return
    qemu = f"{run(TREE / 'tests/tools/qemu-static', 'trixie')}/usr/bin"
    options = {
        "platforms": [OTHER],
        "exclusive": False,
        "source": "path",
        "path": qemu,
        "image": None,
        "pull": "missing",
    }
    options.update(credentials=False, persistent=False, verify=True)
    try:
        declare({**options, "state": "present"}, check_mode=False)
        yield
    finally:
        declare({**options, "state": "absent"}, check_mode=False)


@contextmanager
def buildkitd(programs: Path, scratch: Path):
    """Run a BuildKit daemon, and give its address."""
    address = f"unix://{scratch}/socket"
    command = [programs / "buildkitd", "--root", scratch / "root", "--addr", address, "--oci-worker-gc=false"]
    with open(scratch / "log", "wb") as log:
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        daemon = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        while b"running server on" not in (scratch / "log").read_bytes():
            assert daemon.poll() is None, (scratch / "log").read_text()
            time.sleep(0.05)
        yield address
    finally:
        daemon.terminate()
        daemon.wait(30)


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed; show what it said where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-4000:]}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
