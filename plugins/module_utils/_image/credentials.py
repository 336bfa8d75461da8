# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Docker's credentials for a registry: config.json, credential stores and credential helpers, as `docker login` left them."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any

from .._problem import Problem
from .reference import HUB

HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class Credentials:
    """What a registry or its token service is shown: a user and password, or a token; and where they come from."""

    source: str
    username: str = ""
    password: str = ""
    identity_token: str = ""  # an OAuth2 refresh token, for the token service
    registry_token: str = ""  # a bearer token for the registry itself

    def __repr__(self) -> str:  # a dataclass would print the secrets into a traceback
        return f"Credentials({self.source!r}, {self.username!r})"

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header."""
        import base64

        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def config_path() -> str:
    """Return the path of Docker's config.json of the user who runs this."""
    return os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")


def find(registry: str, deadline: float) -> Credentials | None:
    """Return Docker's credentials for `registry` ("docker.io", "HOST:PORT"), or None where it has none."""
    path = config_path()
    config = _read(path)
    key = HUB_KEY if registry == HUB else registry
    helpers = _table(config, "credHelpers", path)
    helper = helpers.get(key) or helpers.get(registry) or config.get("credsStore")
    if helper:
        return _ask_helper(str(helper), key, path, deadline)
    auths = _table(config, "auths", path)
    for name, entry in auths.items():
        if name == key or _host(name) == _host(key):
            return _from_entry(entry, name, path)
    return None


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise Problem(f"{path}: {error.strerror}", "run as the user whose `docker login` should be used") from error
    except (ValueError, OSError) as error:
        # A ValueError quotes no content, only the position: nothing secret.
        raise Problem(f"{path} is not a Docker configuration: {error}", "mend it, or log in again") from error
    if not isinstance(config, dict):
        raise Problem(f"{path} is not a Docker configuration: it holds no JSON object", "mend it, or log in again")
    return config


def _table(config: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    table = config.get(name) or {}
    if not isinstance(table, dict):
        raise Problem(f"{path}: {name!r} is not JSON object", "mend it, or log in again")
    return table


def _host(key: str) -> str:
    """Return the registry that a key of `auths` means: `https://HOST/v1/`, as old logins wrote it, is HOST."""
    host = key.split("://")[-1].split("/")[0]
    return HUB if host in ("index.docker.io", "registry-1.docker.io", HUB) else host


def _from_entry(entry: Any, name: str, path: str) -> Credentials | None:
    import base64

    source = f"{path}, {name}"
    try:
        username, password = entry.get("username") or "", entry.get("password") or ""
        if entry.get("auth"):
            username, _unused, password = base64.b64decode(entry["auth"]).decode().strip("\0").partition(":")
        found = Credentials(
            source, username, password, entry.get("identitytoken") or "", entry.get("registrytoken") or ""
        )
    except (AttributeError, TypeError, ValueError):
        # From None: the original names the bytes that it could not decode, and they are a secret.
        raise Problem(f"{path}: the entry {name!r} is damaged", f"docker login {_host(name)}") from None
    return found if username or found.identity_token or found.registry_token else None


def _ask_helper(helper: str, key: str, path: str, deadline: float) -> Credentials | None:
    """Run `docker-credential-HELPER get`, as Docker does: the registry on its stdin, JSON on its stdout."""
    import subprocess

    program = f"docker-credential-{helper}"
    if os.path.basename(program) != program:
        raise Problem(f"{path}: {helper!r} is not a valid name for a credential helper", "mend it")
    command = f"`{program} get` for {key}"
    try:
        # AnsibleModule.run_command has no time limit, and a helper may wait for a person.
        ran = subprocess.run(  # pylint: disable=ansible-bad-function
            [program, "get"],
            input=key.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=max(0.1, deadline - time.monotonic()),
            check=False,
        )
    except FileNotFoundError:
        hint = f"install it in a directory of PATH, or remove {helper!r} from {path}"
        raise Problem(f"{program}, which {path} names, is not installed", hint) from None
    except OSError as error:
        raise Problem(f"{program} cannot be run: {error.strerror}", "is it executable?") from error
    except subprocess.TimeoutExpired:
        raise Problem(f"{command} did not answer in time", "does it wait for a person or a keyring?") from None
    if ran.returncode:
        said = (ran.stdout.strip() or ran.stderr.strip()).decode(errors="replace")
        if "credentials not found" in said:
            return None
        first = said.splitlines()[0][:200] if said else f"exit status {ran.returncode}"
        raise Problem(f"{command} failed: {first}", "run it by hand as the same user")
    try:
        answer = json.loads(ran.stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise Problem(f"{command} gave no JSON with Username and Secret", "run it by hand as the same user") from None
    if username == "<token>":
        return Credentials(program, identity_token=secret)
    return Credentials(program, username, secret)
