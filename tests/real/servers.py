# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A real Drone server and its source-code host (Gogs), in containers of a lab, as its only users see them."""

from __future__ import annotations

import base64
import http.cookiejar
import json
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MACHINE = ROOT / "roles/lab/files/machine"
LAB, HOST = "real", "real-1"
DRONE, GOGS = "drone/drone:2.28.1", "gogs/gogs:0.13.3"
# What the host's own engine needs: the runner, its clone step, the article's plugin, and the BuildKit that the plugin starts.
ON_HOST = (
    "drone/drone-runner-docker:1.8.4",
    "drone/git:latest",
    "thegeeklab/drone-docker-buildx:23",
    "moby/buildkit:buildx-stable-1",
)
OWNER, PASSWORD, TOKEN, RPC_SECRET = "octocat", "of-octocat", "0123456789abcdef0123456789abcdef", "of-the-runners"
GOGS_INI = """
RUN_USER = git
RUN_MODE = prod
[server]
EXTERNAL_URL = http://gogs.lab:3000/
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
TYPE = sqlite3
PATH = /tmp/gogs/gogs.db
[repository]
ROOT = /tmp/gogs/repositories
DEFAULT_BRANCH = main
[security]
INSTALL_LOCK = true
SECRET_KEY = not-a-real-key
LOCAL_NETWORK_ALLOWLIST = *
[log]
MODE = console
ROOT_PATH = /tmp/gogs/log
"""


def docker(*words: str, stdin: str | None = None) -> str:
    """Run docker and return what it printed."""
    done = subprocess.run(["docker", *words], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.strip()


def have(image: str) -> str:
    """Pull an image unless it is here; return why it cannot be had."""
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0:
        return ""
    pulled = subprocess.run(["docker", "pull", "-q", image], capture_output=True, text=True, check=False)
    return pulled.stderr.strip() if pulled.returncode else ""


def machine(*words: str) -> None:
    subprocess.run([MACHINE, *words], check=True, stdout=subprocess.DEVNULL)


def address(container: str) -> str:
    """Return a container's address in the lab's network."""
    return docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)


def until(what: str, ask: Any, *, seconds: float) -> Any:
    """Ask until there is an answer; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(1)


@dataclass
class Server:
    """An HTTP server that speaks JSON."""

    url: str
    authorization: str

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer; None where it is refused or does not come."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": self.authorization, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None


@dataclass
class World:
    """What the tests stand on; addresses are those that this machine reaches."""

    gogs: Server
    drone: Server

    @property
    def remote(self) -> str:
        """The repository as git takes it from here."""
        return self.gogs.url.replace("//", f"//{OWNER}:{PASSWORD}@") + f"/{OWNER}/example.git"

    def builds(self) -> list[dict[str, Any]]:
        return self.drone.ask("GET", f"/api/repos/{OWNER}/example/builds") or []

    def build(self, number: int, *, seconds: float = 600) -> dict[str, Any]:
        """Return a build once it has ended."""

        def ended() -> dict[str, Any] | None:
            found = self.drone.ask("GET", f"/api/repos/{OWNER}/example/builds/{number}")
            return found if found and found["status"] not in ("pending", "running") else None

        return until(f"build {number} ends", ended, seconds=seconds)

    def log(self, number: int) -> str:
        """Return what the steps of a build's first stage printed."""
        text = ""
        for step in range(1, 4):
            lines = self.drone.ask("GET", f"/api/repos/{OWNER}/example/builds/{number}/logs/1/{step}") or []
            text += "".join(line["out"] for line in lines)
        return text


def login(url: str) -> None:
    """Log in to Drone in its web page's way, which gives it a token of the source-code host."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    form = urllib.parse.urlencode({"username": OWNER, "password": PASSWORD}).encode()
    browser.open(f"{url}/login", form, timeout=60).close()


def start(directory: Path) -> World:
    """Start Gogs and Drone, and make the user and the repository."""
    (directory / "app.ini").write_text(GOGS_INI)
    directory.chmod(0o755)
    of_lab = ["-d", "--label", f"multiarch.lab={LAB}", "--network", LAB]
    docker(
        *("run", *of_lab, "--name", "real-gogs", "--network-alias", "gogs.lab", "--user", "git", "-e", "USER=git"),
        *(
            "-v",
            f"{directory}:/config:ro",
            "--entrypoint",
            "/app/gogs/gogs",
            GOGS,
            "web",
            "--config",
            "/config/app.ini",
        ),
    )
    password = base64.b64encode(f"{OWNER}:{PASSWORD}".encode()).decode()
    gogs = Server(f"http://{address('real-gogs')}:3000", f"Basic {password}")
    until("Gogs answers", lambda: gogs.ask("GET", "/api/v1/users/search?q=x"), seconds=60)
    docker(
        *("exec", "-u", "git", "-e", "USER=git", "real-gogs", "/app/gogs/gogs", "admin", "create-user", "--admin"),
        *("--config", "/config/app.ini", "--name", OWNER, "--password", PASSWORD, "--email", "octocat@example.org"),
    )
    made = gogs.ask(
        "POST", f"/api/v1/users/{OWNER}/tokens", {"name": "tests"}
    )  # all that a password opens of Gogs' API
    gogs.authorization = f"token {made['sha1']}"
    assert gogs.ask("POST", "/api/v1/user/repos", {"name": "example"})
    environment = {
        "DRONE_GOGS_SERVER": "http://gogs.lab:3000",
        "DRONE_SERVER_HOST": "drone.lab",
        "DRONE_SERVER_PROTO": "http",
        "DRONE_RPC_SECRET": RPC_SECRET,
        "DRONE_USER_CREATE": f"username:{OWNER},admin:true,token:{TOKEN}",
    }
    given = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    docker("run", *of_lab, "--name", "real-drone", "--network-alias", "drone.lab", *given, DRONE)
    drone = Server(f"http://{address('real-drone')}", f"Bearer {TOKEN}")
    until("Drone answers", lambda: drone.ask("GET", "/api/user"), seconds=60)
    login(drone.url)
    until("Drone knows the repository", lambda: drone.ask("GET", f"/api/repos/{OWNER}/example"), seconds=60)
    return World(gogs, drone)
