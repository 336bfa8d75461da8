# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one gate to the Docker CLI: argument lists, JSON, time limits, and errors that say what to do.

The CLI and not the API: it knows the user's contexts, credential helpers, ssh endpoints and plugins, and a task then
needs no Python library on the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from .._passwords import without_passwords
from .._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The option that every module that calls the Docker CLI takes; documented in doc_fragments/docker_cli.py.
DOCKER_CLI_OPTIONS = {"docker_cli": {"type": "str", "default": "docker"}}

# Where the CLI finds its plugins after the user's own directory (docker/cli: cli-plugins/manager).
PLUGIN_DIRS = tuple(f"/usr/{path}/docker/cli-plugins" for path in ("local/lib", "local/libexec", "lib", "libexec"))

# What Docker says, and what to do about it. The first that matches wins.
HINTS = (
    (r"permission denied while trying to connect|connect: permission denied", "run the task as root, or add the user to the group docker"),
    (r"Cannot connect to the Docker daemon|error during connect|connection refused", "start the daemon, or check DOCKER_HOST and the context"),
    (r"unknown command: docker buildx|'buildx' is not a docker command", "install the buildx plugin: docker-buildx or docker-buildx-plugin"),
    (r"no space left on device|disk quota exceeded", "free some space on the disk"),
    (r"unable to apply caps|operation not permitted", "privileged containers are not possible here: use the remote or the docker driver"),
    (r"toomanyrequests|rate limit", "log in to the registry, or configure a mirror of it"),
    (r"pull access denied|manifest unknown|manifest for .* not found|repository does not exist", "check the reference, and log in where it is private"),
    (r"lookup .*no such host|server misbehaving|Temporary failure in name resolution", "check the name and the host's DNS"),
    (r"x509: |tls: ", "check the certificates, their dates and the name they are for"),
)  # fmt: skip


class Output(NamedTuple):
    """What a docker process said."""

    argv: tuple[str, ...]
    rc: int
    out: str
    err: str

    def lines(self) -> list[Any]:
        """Return the JSON value of each line, as `docker … --format json` prints them."""
        return [self._parse(line) for line in self.out.splitlines() if line.strip()]

    def json(self) -> Any:
        """Return the whole output as one JSON value."""
        return self._parse(self.out)

    def _parse(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise Problem(f"{shown(self.argv)} did not print JSON: {error}", stdout=self.out[-4000:]) from error

    def problem(self) -> Problem:
        """Return the Problem that this failed call is."""
        said = without_passwords(last_words(self.err) or last_words(self.out) or "nothing")
        hint = next((hint for pattern, hint in HINTS if re.search(pattern, self.err + self.out, re.IGNORECASE)), "")
        return Problem(
            f"{shown(self.argv)} failed ({self.rc}): {said}",
            hint,
            rc=self.rc,
            stderr=without_passwords(self.err[-4000:]),
        )


class Docker(NamedTuple):
    """The Docker CLI of one user: `cli` is its name or path, `env` what is set over the environment."""

    cli: str = "docker"
    env: Mapping[str, str] | None = None

    def run(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float = 120,
        check: bool = True,
        heard: Callable[[str], object] | None = None,
    ) -> Output:
        """Run `docker ARGS` and return what it said; raise a Problem where it fails (unless not `check`) or takes too long.

        `heard` gets each line of its standard error as it comes.
        """
        call = self.start(*args, env=env, stdin=stdin, timeout=timeout)
        return call.wait(check=check, heard=heard) if heard else call.wait(check=check)

    def start(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float = 120,
    ) -> Call:
        """Start `docker ARGS` beside others; the process works until `wait` is called."""
        return self._start((self.cli, *args), env, stdin, timeout)

    def start_buildx(self, *args: str, env: Mapping[str, str] | None = None, timeout: float = 120) -> Call:
        """Start `docker buildx ARGS`, by the plugin's own path where it is plain to see.

        The CLI starts a plugin twice, first to be told what it is: that takes longer than the answer.
        """
        environment = {**os.environ, **(self.env or {})}
        plugin = buildx_plugin(environment) if self.cli == "docker" else ""
        return self._start((plugin, *args) if plugin else (self.cli, "buildx", *args), env, None, timeout)

    def _start(self, argv: tuple[str, ...], env: Mapping[str, str] | None, stdin: bytes | None, timeout: float) -> Call:
        # Hints and colours of the CLI are for terminals; a builder that the environment names would win over ours.
        settings = {"DOCKER_CLI_HINTS": "false", "NO_COLOR": "1", "BUILDKIT_PROGRESS": "plain", "BUILDX_BUILDER": ""}
        environment = {**os.environ, **settings, **(self.env or {}), **(env or {})}
        try:
            # AnsibleModule.run_command has no time limit.
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                argv,
                env={name: value for name, value in environment.items() if value or name not in settings},
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that a time limit ends the plugin as well, which is a child of the CLI
            )
        except FileNotFoundError as error:
            raise Problem(
                f"there is no Docker CLI {self.cli!r} here", "install it: role multiarch.drone.docker_engine"
            ) from error
        except OSError as error:
            raise Problem(f"{self.cli} cannot be executed: {error.strerror}") from error
        return Call(argv, process, stdin, timeout, time.monotonic())


class Call(NamedTuple):
    """A docker process at work."""

    argv: tuple[str, ...]
    process: subprocess.Popen[bytes]
    stdin: bytes | None
    timeout: float
    started: float

    def wait(self, *, check: bool = True, heard: Callable[[str], object] | None = None) -> Output:
        """Return what the process said when it has ended; `heard` gets each line of its standard error before."""
        left = max(0.1, self.started + self.timeout - time.monotonic())
        try:
            out, err = (
                self._listen(heard, left)
                if heard and self.stdin is None
                else self.process.communicate(self.stdin, timeout=left)
            )
        except subprocess.TimeoutExpired as error:
            self.end()
            raise Problem(
                f"{shown(self.argv)} did not end within {self.timeout:g} s",
                "check what it waits for, or raise the time limit",
            ) from error
        except BaseException:
            self.end()
            raise
        output = Output(self.argv, self.process.returncode, _text(out), _text(err))
        if check and output.rc:
            raise output.problem()
        return output

    def _listen(self, heard: Callable[[str], object], left: float) -> tuple[bytes, bytes]:
        """Return both outputs, as `communicate` does, and hand over each line of the second one."""
        import threading  # only who listens needs it

        said: tuple[list[bytes], list[bytes]] = ([], [])

        def read(stream: Any, lines: list[bytes], each: Callable[[str], object] | None) -> None:
            for line in stream:
                lines.append(line)
                if each is not None:
                    each(_text(line))

        streams = ((self.process.stdout, said[0], None), (self.process.stderr, said[1], heard))
        threads = [threading.Thread(target=read, args=stream, daemon=True) for stream in streams]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + left
        for thread in threads:
            thread.join(max(0.1, deadline - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.argv, self.timeout)
        self.process.wait(max(0.1, deadline - time.monotonic()))
        return b"".join(said[0]), b"".join(said[1])

    def end(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(OSError):  # it has ended by itself
            os.killpg(self.process.pid, 9)
        with contextlib.suppress(ValueError):  # a thread that listens reads it to its end, and closes it
            self.process.communicate()


def docker_config_dir(env: Mapping[str, str]) -> str:
    """Return the directory of the user's config.json, contexts and plugins, as the CLI finds it."""
    return env.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


def buildx_plugin(env: Mapping[str, str]) -> str:
    """Return the path of the buildx that the CLI would start, or "" where it has to be asked."""
    if _config(env).get("cliPluginsExtraDirs"):
        return ""
    directories = (os.path.join(docker_config_dir(env), "cli-plugins"), *PLUGIN_DIRS)
    paths = (os.path.join(directory, "docker-buildx") for directory in directories)
    found = next((path for path in paths if os.path.exists(path)), "")
    return found if os.access(found, os.X_OK) else ""


def _config(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the user's config.json; {} without one, or where it is none."""
    try:
        with open(os.path.join(docker_config_dir(env), "config.json"), encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def context_host(env: Mapping[str, str], name: str) -> str:
    """Return the address of the daemon that the context `name` stands for, or "" where there is no such context."""
    if name == "default":
        return env.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    import hashlib

    digest = hashlib.sha256(name.encode()).hexdigest()
    path = os.path.join(docker_config_dir(env), "contexts", "meta", digest, "meta.json")
    try:
        with open(path, encoding="utf-8") as file:
            return str(json.load(file)["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def current_context(env: Mapping[str, str]) -> str:
    """Return the name of the context that the CLI uses now: DOCKER_CONTEXT, DOCKER_HOST (default), config.json."""
    if env.get("DOCKER_CONTEXT"):
        return env["DOCKER_CONTEXT"]
    if env.get("DOCKER_HOST"):
        return "default"
    return str(_config(env).get("currentContext") or "default")


def shown(argv: Sequence[str]) -> str:
    """Return a command as a person would type it, without passwords."""
    return without_passwords(" ".join(shlex.quote(word) for word in argv))


def last_words(text: str, reason: str = r"(ERROR|error|Error)\b") -> str:
    """Return the line in which a program says why it ended: the last that begins with `reason`, or else its last words.

    What is no word of the program's own goes: advice of the CLI, "Error response from daemon:", all of a logfmt line but
    its error or message.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("See 'docker", "Run 'docker"))] or lines
    line = next((line for line in reversed(lines) if re.match(reason, line)), lines[-1] if lines else "")
    if "level=" in line:
        line = re.sub(r".*msg=", "", line)
    return re.sub(r"^(ERROR|error|Error)( response from daemon)?:\s*", "", line)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
