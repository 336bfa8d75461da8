# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stand-in for the image thegeeklab/drone-docker-buildx:23, where no registry can be reached to pull it from.

    plugin.py --image NAME   makes the image, out of the packages of the Debian host that it runs on
    plugin.py                is that image's entrypoint, and takes its settings from PLUGIN_*, as the real plugin does

It has the real one's settings and defaults, starts a Docker daemon of its own on an empty /var/lib/docker, logs in, and runs
the same `docker buildx build`; its messages are the real one's, the unhelpful ones too. Where it differs:

- The real one then makes a builder, which pulls and starts moby/buildkit. Here the daemon's own BuildKit builds, with the
  containerd image store. `buildkit_config` is that builder's: of it this takes what registries speak plain HTTP, and only
  for the build, so that `insecure` alone still does not push.
- `--push` would push twice, since with the engine as the builder buildx 0.13 pushes once more; see `run`.
- The real one starts CoreDNS for the containers inside. Here they have what `custom_dns` says.
- The real one puts the password into an argument of `docker login`. Here it goes through standard input.
- The emulators are the host's alone: no BuildKit image brings its own, so a foreign RUN proves the host's handlers.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import tomllib

# What the image takes from its host: programs and libraries, no settings of the host's daemon, no emulator, no secret.
PARTS = ("bin", "sbin", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/libexec")
PARTS += ("etc/alternatives", "etc/group", "etc/ld.so.conf", "etc/ld.so.cache", "etc/nsswitch.conf", "etc/passwd")
LEFT_OUT = ("usr/bin/qemu-*", "usr/libexec/qemu-*", "usr/bin/docker-registry", "usr/bin/ctr", "__pycache__")
LEFT_OUT += ("usr/lib/*/perl*", "usr/lib/*/systemd", "usr/lib/systemd", "usr/lib/udev", "usr/lib/python3/dist-packages")
DAEMON_JSON = Path("/etc/docker/plugin.json")


class Failed(Exception):
    """What ends the plugin, in the real one's words."""


def setting(*names: str, default: str = "") -> str:
    """Return a setting: the first of these variables that is not empty."""
    return next((os.environ[name] for name in names if os.environ.get(name)), default)


def flag(name: str, *, default: bool = False) -> bool:
    """Return a setting that is true or false, as Go's strconv.ParseBool reads it."""
    value = setting(name)
    if not value:
        return default
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Failed(f'could not parse "{value}" as bool value from environment variable "{name}"')


def words(*names: str, file: str = "") -> list[str]:
    """Return a setting that is a list, which the runner has joined with commas; else what a file of the workspace has."""
    value = setting(*names)
    if not value and file and os.path.exists(file):
        value = Path(file).read_text(encoding="utf-8")
    return [word.strip() for word in value.split(",")] if value else []


def escaped(name: str) -> list[str]:
    r"""Return a list whose words may hold commas, written as `\,`."""
    found: list[str] = []
    for part in setting(name).split(",") if setting(name) else []:
        if found and found[-1].endswith("\\"):
            found[-1] = f"{found[-1][:-1]},{part}"
        else:
            found.append(part)
    return found


def auto_tags(ref: str, suffix: str) -> list[str]:
    """Return the tags of a git tag, or of the default branch: plugin/tags.go of the real one."""
    if not ref.startswith("refs/tags/"):
        return [suffix or "latest"]
    raw = ref[len("refs/tags/") :]
    raw = raw[1:] if raw.startswith("v") else raw
    names = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
    version = re.fullmatch(rf"([0-9]+\.[0-9]+\.[0-9]+)(?:-({names})?)?(?:\+({names})?)?", raw)
    if not version:
        raise Failed(f"validation failed: {raw} is not in dotted-tri format")
    parts, (pre, metadata) = version.group(1).split("."), version.groups()[1:]
    numbers = [str(int(part)) for part in parts]
    if pre or metadata:
        tags = [".".join(numbers) + (f"-{pre}" if pre else "") + (f"+{metadata}" if metadata else "")]
    else:
        tags = [".".join(parts[:length]) for length in ((2, 3) if numbers[0] == "0" else (1, 2, 3))]
    return [f"{tag}-{suffix}" if suffix else tag for tag in tags]


def tags() -> list[str]:
    """Return the image's tags. None, and the image is built and not pushed, whatever the documentation says of `latest`."""
    given = words("PLUGIN_TAG", "PLUGIN_TAGS", file=".tags")
    if not (flag("PLUGIN_AUTO_TAG") or flag("PLUGIN_DEFAULT_TAGS")):
        return given
    ref, branch = os.environ.get("DRONE_COMMIT_REF", ""), os.environ.get("DRONE_REPO_BRANCH", "")
    if ref.startswith("refs/tags/") or ref.replace("refs/heads/", "", 1) == branch:
        return auto_tags(ref, setting("PLUGIN_DEFAULT_SUFFIX", "PLUGIN_AUTO_TAG_SUFFIX"))
    print(f"skip auto-tagging for {ref}, not on default branch or tag")
    return given


def build_arguments() -> list[str]:
    """Return NAME=value of each build argument: the settings', those taken from the environment, and a proxy's."""
    arguments = words("PLUGIN_BUILD_ARGS")
    for name in ("http_proxy", "https_proxy", "no_proxy", *words("PLUGIN_BUILD_ARGS_FROM_ENV")):
        value = setting(name, name.upper())
        if value and not any(argument.startswith((name, name.upper())) for argument in arguments):
            arguments += [f"{name}={value}", f"{name.upper()}={value}"]
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [f"DOCKER_IMAGE_CREATED={now}", *arguments]


def build() -> list[str]:
    """Return the arguments of `docker` that build and push."""
    repo, made, output = setting("PLUGIN_REPO"), tags(), setting("PLUGIN_OUTPUT")
    command = ["buildx", "build", "--rm=true", "-f", setting("PLUGIN_DOCKERFILE", default="Dockerfile")]
    command.append(setting("PLUGIN_CONTEXT", default="."))
    command += ["--push"] if made and not output and not flag("PLUGIN_DRY_RUN") else []
    command += ["--compress"] if flag("PLUGIN_COMPRESS") else []
    command += ["--pull=true"] if flag("PLUGIN_PULL_IMAGE", default=True) else []
    command += ["--no-cache"] if flag("PLUGIN_NO_CACHE") else []
    for name, values in (
        ("--cache-from", escaped("PLUGIN_CACHE_FROM")),
        ("--cache-to", [setting("PLUGIN_CACHE_TO")]),
        ("--build-arg", build_arguments()),
        ("--add-host", words("PLUGIN_ADD_HOST")),
        ("--target", [setting("PLUGIN_TARGET")]),
    ):
        command += [word for value in values if value for word in (name, value)]
    command += ["--quiet"] if flag("PLUGIN_QUIET") else []
    for name, values in (
        ("--output", [output]),
        ("--build-context", words("PLUGIN_NAMED_CONTEXT")),
        ("--platform", [",".join(words("PLUGIN_PLATFORMS"))]),
        ("-t", [f"{repo}:{tag}" for tag in made] + words("PLUGIN_EXTRA_TAGS", file=".extratags")),
        ("--label", words("PLUGIN_LABELS")),
        ("--provenance", [setting("PLUGIN_PROVENANCE")]),
        ("--sbom", [setting("PLUGIN_SBOM")]),
    ):
        command += [word for value in values if value for word in (name, value)]
    return command


def daemon() -> list[str]:
    """Return the arguments of `dockerd`."""
    command = ["--data-root", setting("PLUGIN_STORAGE_PATH", default="/var/lib/docker")]
    command.append("--host=unix:///var/run/docker.sock")
    driver = setting("PLUGIN_STORAGE_DRIVER")
    command += ["-s", driver] if driver else []
    command += ["--ipv6"] if flag("PLUGIN_IPV6") else []
    for name, values in (
        ("--registry-mirror", [setting("PLUGIN_MIRROR", "DOCKER_PLUGIN_MIRROR")]),
        ("--bip", [setting("PLUGIN_BIP")]),
        ("--dns", words("PLUGIN_CUSTOM_DNS")),
        ("--dns-search", words("PLUGIN_CUSTOM_DNS_SEARCH")),
        ("--mtu", [setting("PLUGIN_MTU")]),
    ):
        command += [word for value in values if value for word in (name, value)]
    command += ["--experimental"] if flag("PLUGIN_EXPERIMENTAL") else []
    return command


def plain_http(config: str) -> list[str]:
    """Return the registries that a buildkitd.toml says speak plain HTTP, or need no certificate that holds."""
    tables = tomllib.loads(config).get("registry", {})
    return [name for name, table in tables.items() if table.get("http") or table.get("insecure")]


def write_daemon_json(insecure: list[str]) -> None:
    """Write what the daemon reads again at a SIGHUP: which registries are insecure."""
    DAEMON_JSON.parent.mkdir(parents=True, exist_ok=True)
    DAEMON_JSON.write_text(
        json.dumps({"features": {"containerd-snapshotter": True}, "insecure-registries": insecure}), encoding="utf-8"
    )


def docker(*arguments: str, stdin: str | None = None, quiet: bool = False) -> int:
    """Run `docker`, shown as the real plugin shows it; return its exit code."""
    if not quiet:
        print("+ docker", *arguments, flush=True)
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(
        ["docker", *arguments], input=stdin, text=True, stdout=output, stderr=output, check=False
    ).returncode


def run() -> None:
    """Be the plugin."""
    registry = setting("PLUGIN_REGISTRY", "DOCKER_REGISTRY", default="https://index.docker.io/v1/")
    username = setting("PLUGIN_USERNAME", "DOCKER_USERNAME")
    password = setting("PLUGIN_PASSWORD", "DOCKER_PASSWORD")
    command = build()
    process = None
    if not flag("PLUGIN_DAEMON_OFF"):
        write_daemon_json([registry] if flag("PLUGIN_INSECURE") else [])
        output = None if flag("PLUGIN_DEBUG") else subprocess.DEVNULL
        print("+ dockerd", *daemon(), flush=True)
        process = subprocess.Popen(
            ["dockerd", "--config-file", str(DAEMON_JSON), *daemon()], stdout=output, stderr=output
        )
    for _second in range(75):  # 15 seconds, and then it goes on as if nothing were
        if not docker("info", quiet=True):
            break
        time.sleep(0.2)
    config = setting("PLUGIN_CONFIG", "DOCKER_PLUGIN_CONFIG")
    if config:
        path = Path.home() / ".docker/config.json"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(config, encoding="utf-8")
    login = ("login", "--username", username, "--password-stdin", registry)
    if password and docker(*login, stdin=password, quiet=True):
        raise Failed("execution failed: error authenticating: exit status 1")
    if process is not None:
        write_daemon_json(plain_http(setting("PLUGIN_BUILDKIT_CONFIG")))
        process.send_signal(signal.SIGHUP)
    # BuildKit reads an empty `push` as true, and buildx then leaves the pushing to it.
    command = ["--output=type=image,push=" if word == "--push" else word for word in command]
    for arguments in (["version"], ["info"], ["buildx", "ls"], command):
        code = docker(*arguments)
        if code:
            raise Failed(f"execution failed: exit status {code}")


def make_image(name: str) -> None:
    """Make the image: this host's programs, with this file as the entrypoint.

    `docker import` compresses, which takes half a minute; `docker load` takes a layer as it is.
    """
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        layer = Path(directory) / "layer.tar"
        there = [part for part in PARTS if os.path.lexists(f"/{part}")]
        tar = ["tar", "-cf", str(layer), "--numeric-owner", *(f"--exclude={pattern}" for pattern in LEFT_OUT)]
        subprocess.run([*tar, "-C", "/", *there], check=True)
        itself = Path(__file__).read_bytes()
        with tarfile.open(layer, "a") as archive:
            add(archive, "plugin.py", itself, mode=0o755)
            for path in ("tmp", "run", "var/lib/docker", "root", "proc", "sys", "dev"):
                entry = tarfile.TarInfo(path)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
                archive.addfile(entry)
            link = tarfile.TarInfo("var/run")
            link.type, link.linkname = tarfile.SYMTYPE, "/run"
            archive.addfile(link)
        with open(layer, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        config = {
            "architecture": machine,
            "os": "linux",
            "config": {
                "Entrypoint": ["python3", "-B", "/plugin.py"],
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DOCKER_HOST=unix:///var/run/docker.sock"],
                "Volumes": {"/var/lib/docker": {}},
                "Labels": {"multiarch.lab.stand-in": hashlib.sha256(itself).hexdigest()},
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
        load = subprocess.Popen(["docker", "load", "--quiet"], stdin=subprocess.PIPE)
        with tarfile.open(fileobj=load.stdin, mode="w|") as archive:
            add(archive, "manifest.json", json.dumps(manifest).encode())
            add(archive, "config.json", json.dumps(config).encode())
            archive.add(layer, "layer.tar")
        load.stdin.close()  # type: ignore[union-attr]
        if load.wait():
            raise Failed(f"docker load failed with {load.returncode}")


def add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    """Add a file to an archive."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def is_current(name: str) -> bool:
    """Tell whether the image is there, and made of this very file."""
    label = '{{index .Config.Labels "multiarch.lab.stand-in"}}'
    told = subprocess.run(
        ["docker", "image", "inspect", "--format", label, name], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def main() -> None:
    """Make the image, or be the plugin."""
    if sys.argv[1:2] == ["--image"]:
        missing = [program for program in ("docker", "dockerd", "tar") if not shutil.which(program)]
        if missing:
            sys.exit(
                f"no {missing[0]} here: the image is made of a host with Debian's docker.io, docker-cli and docker-buildx"
            )
        if not is_current(sys.argv[2]):
            make_image(sys.argv[2])
            print("CHANGED made", sys.argv[2])
        return
    try:
        run()
    except Failed as failed:
        sys.exit(f'level=fatal msg="{failed}"')


if __name__ == "__main__":
    main()
