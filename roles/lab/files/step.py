# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run one step of a `.drone.yml` as drone-runner-docker does: `step.py [--show] < request.json`.

The request says what Drone's server would: {"config": the file's text, "pipeline": "default", "step": "docker", "secrets":
{NAME: VALUE}, "build": {"event": "push", "ref": …, "branch": …, "commit": …}, "repo": {"slug": …, "branch": …, "trusted":
false}, "privileged_images": […]}; and where: "host" is a lab's host (none: this machine), "workspace" a directory there that
takes the place of the clone, "images" names the images that stand for others: {"IMAGE": "STAND-IN"}.

Done as the runner does it (drone-runner-docker 1.8.4, runner-go): `${…}` put in over the whole text; the linter's refusals, in
its words; conditions; settings to PLUGIN_*; secrets; who is privileged; commands as one traced script; the step's container
on a network of its own; secrets masked in the log. Left out: clone, services, volumes, and pulling. `--show` prints what
would run, secrets by name.
"""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from typing import Any, Mapping

import yaml

# What the runner privileges by itself: engine/compiler/compiler.go.
PRIVILEGED = ("plugins/docker", "plugins/acr", "plugins/ecr", "plugins/gcr", "plugins/heroku", "plugins/gar")
RESTRICTED = ("XDG_RUNTIME_DIR", "DOCKER_OPTS", "DOCKER_HOST", "PATH", "HOME")
# What takes trust: engine/linter/linter.go.
TRUST = {
    "privileged": "enable privileged mode",
    "devices": "mount devices",
    "dns": "configure dns",
    "dns_search": "configure dns_search",
    "extra_hosts": "configure extra_hosts",
    "network_mode": "configure network_mode",
    "shm_size": "configure shm_size",
}
WORKSPACE = "/drone/src"
# engine/compiler/shell/shell.go
SCRIPT = """
if [ ! -z "${DRONE_NETRC_FILE}" ]; then
    echo $DRONE_NETRC_FILE > $HOME/.netrc
    chmod 600 $HOME/.netrc
fi

unset DRONE_SCRIPT
unset DRONE_NETRC_MACHINE
unset DRONE_NETRC_USERNAME
unset DRONE_NETRC_PASSWORD
unset DRONE_NETRC_FILE

set -e
"""
# On the host: arguments and environment come through standard input, for others can see a process's arguments.
LAUNCH = "import json, os, sys; a, e = json.load(sys.stdin); os.execvpe(a[0], a, {**os.environ, **e})"


class Refused(Exception):
    """Why the step does not run, in Drone's words where they are Drone's."""


@dataclass
class Step:
    """A step as the runner's compiler leaves it."""

    name: str
    image: str
    privileged: bool
    environment: dict[str, str]
    secrets: dict[str, str]  # variable to the secret's name
    skipped: bool  # its conditions are not met
    pull: str = ""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    user: str = ""


def facts(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that tell a step of its build: runner-go/environ."""
    build, repo = request.get("build", {}), request.get("repo", {})
    slug = repo.get("slug", "octocat/example")
    default = repo.get("branch", "main")
    event, branch = build.get("event", "push"), build.get("branch", default)
    ref = build.get("ref", f"refs/heads/{branch}")
    commit = build.get("commit", "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d")
    known = {
        "CI": "true",
        "DRONE": "true",
        "DRONE_REPO": slug,
        "DRONE_REPO_OWNER": slug.split("/")[0],
        "DRONE_REPO_NAMESPACE": slug.split("/")[0],
        "DRONE_REPO_NAME": slug.split("/")[-1],
        "DRONE_REPO_BRANCH": default,
        "DRONE_BRANCH": branch,
        "DRONE_TARGET_BRANCH": branch,
        "DRONE_COMMIT": commit,
        "DRONE_COMMIT_SHA": commit,
        "DRONE_COMMIT_AFTER": commit,
        "DRONE_COMMIT_REF": ref,
        "DRONE_COMMIT_BRANCH": branch,
        "DRONE_COMMIT_MESSAGE": build.get("message", ""),
        "DRONE_BUILD_NUMBER": str(build.get("number", 1)),
        "DRONE_BUILD_EVENT": event,
        "DRONE_BUILD_STATUS": "success",
        "DRONE_BUILD_DEBUG": "false",
        "DRONE_STAGE_NAME": request.get("pipeline", "default"),
        "DRONE_WORKSPACE": WORKSPACE,
        "DRONE_WORKSPACE_BASE": WORKSPACE,
        "CI_COMMIT_SHA": commit,
        "CI_COMMIT_REF": ref,
        "CI_COMMIT_BRANCH": branch,
        "CI_BUILD_EVENT": event,
        "CI_REPO": slug,
    }
    if event == "pull_request":
        known["DRONE_PULL_REQUEST"] = "".join(re.findall(r"\d+", ref)[:1])
    if ref.startswith("refs/tags/"):
        known["DRONE_TAG"] = ref[len("refs/tags/") :]
    return known


def substituted(text: str, known: Mapping[str, str]) -> str:
    """Return a text with `${NAME}`, `${NAME:FROM:LENGTH}` and `${NAME:-DEFAULT}` put in, and `$$` for one `$`.

    drone/envsubst, so far as pipelines use it; a file with more of it is refused, not misread.
    """

    def put_in(match: re.Match[str]) -> str:
        whole = match.group()
        if whole == "$$":
            return "$"
        form = re.fullmatch(r"\$\{(\w+)(?::(\d+)(?::(\d+))?|:?[-=](.*))?\}", whole)
        if not form:
            raise Refused(f"this stand-in for Drone does not know {whole}")
        value = known.get(form.group(1), "")
        if form.group(2):
            value = value[int(form.group(2)) :][: int(form.group(3)) if form.group(3) else None]
        value = value or form.group(4) or ""
        return json.dumps(value) if "\n" in value else value

    return re.sub(r"\$\$|\$\{[^}]*\}", put_in, text)


def encoded(value: Any) -> str:
    """Return a setting as the plugin gets it: drone-runner-docker, internal/encoder."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
        return ",".join(map(encoded, value))
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    return str(value)


def pipeline_of(request: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """Return the pipeline of that name."""
    wanted = request.get("pipeline", "default")
    for document in yaml.safe_load_all(substituted(request["config"], known)):
        pipeline = document if isinstance(document, dict) and document.get("kind") == "pipeline" else {}
        if pipeline and (pipeline.get("name") or "default") == wanted:
            return pipeline
    raise Refused(f"the file has no pipeline {wanted}")


def lint(pipeline: Mapping[str, Any], *, trusted: bool) -> None:
    """Refuse what the runner's linter refuses, in its words."""
    names = [] if pipeline.get("clone", {}).get("disable") else ["clone"]
    for step in [*pipeline.get("services", []), *pipeline.get("steps", [])]:
        if step.get("name") in names:
            raise Refused("linter: duplicate step names")
        names.append(step.get("name"))
        if not step.get("image"):
            raise Refused("linter: invalid or missing image")
        for key, does in TRUST.items():
            if step.get(key) and not trusted:
                raise Refused(f"linter: untrusted repositories cannot {does}")
    for volume in pipeline.get("volumes", []):
        if "host" in volume and not trusted:
            raise Refused("linter: untrusted repositories cannot mount host volumes")


def compiled(request: Mapping[str, Any]) -> Step:
    """Return the step as the runner's compiler makes it."""
    known = facts(request)
    pipeline = pipeline_of(request, known)
    lint(pipeline, trusted=bool(request.get("repo", {}).get("trusted")))
    wanted = request.get("step", "docker")
    step = next((step for step in pipeline.get("steps", []) if step.get("name") == wanted), None)
    if step is None:
        raise Refused(f"pipeline {request.get('pipeline', 'default')} has no step {wanted}")
    if step.get("volumes"):
        raise Refused("this stand-in for the runner mounts no volumes")
    environment, secrets = {**known, **pipeline.get("environment", {})}, {}
    given = dict(step.get("environment", {}))
    given.update({f"PLUGIN_{name.upper()}": value for name, value in step.get("settings", {}).items()})
    for name, value in given.items():
        if isinstance(value, dict) and value.get("from_secret"):
            secrets[name] = value["from_secret"]
        elif value is not None:
            environment[name] = encoded(value)
    privileged = bool(step.get("privileged")) or _privileged_by_image(step, request.get("privileged_images", []))
    made = Step(
        wanted,
        step["image"],
        privileged,
        environment,
        secrets,
        not _matches(step.get("when", {}), known),
        step.get("pull", ""),
    )
    made.user = step.get("user", "")
    made.entrypoint, made.command = list(step.get("entrypoint", [])), list(step.get("command", []))
    if step.get("commands"):
        made.entrypoint = ["/bin/sh", "-c"]
        made.command = ['echo "$DRONE_SCRIPT" | /bin/sh']
        environment["DRONE_SCRIPT"] = "\n" + SCRIPT + "\n" + "".join(map(_traced, step["commands"]))
    return made


def _traced(command: str) -> str:
    shown = json.dumps(command, ensure_ascii=False).replace("$", "\\$")
    return f"\necho + {shown}\n{command}\n"


def _privileged_by_image(step: Mapping[str, Any], images: list[str]) -> bool:
    """Tell whether the runner privileges the step for its image, though the step does not say so."""
    if any(step.get(key) for key in ("commands", "command", "entrypoint", "volumes")):
        return False
    if set(RESTRICTED) & set(step.get("environment", {})):
        return False
    return _short(step["image"]) in {_short(image) for image in (*images, *PRIVILEGED)}


def _short(image: str) -> str:
    """Return an image without tag, digest and Docker Hub's own name."""
    name = re.sub(r"(:[\w.-]+)?(@.*)?$", "", image, count=1)
    return re.sub(r"^(index\.)?docker\.io/(library/)?", "", name)


def _matches(when: Mapping[str, Any], known: Mapping[str, str]) -> bool:
    """Tell whether conditions are met: runner-go/manifest/cond.go."""
    facts_of = {
        "event": known["DRONE_BUILD_EVENT"],
        "branch": known["DRONE_BRANCH"],
        "ref": known["DRONE_COMMIT_REF"],
        "repo": known["DRONE_REPO"],
    }
    for name, condition in when.items():
        if name not in facts_of:
            if name in ("status", "cron", "instance", "target", "action"):
                continue
            raise Refused(f"this stand-in for the runner does not know the condition {name}")
        rule = condition if isinstance(condition, dict) else {"include": condition}
        include, exclude = (
            [one] if isinstance(one, str) else one for one in (rule.get("include", []), rule.get("exclude", []))
        )
        fact = facts_of[name]
        if any(fnmatch.fnmatchcase(fact, pattern) for pattern in exclude):
            return False
        if include and not any(fnmatch.fnmatchcase(fact, pattern) for pattern in include):
            return False
    return True


def run(step: Step, request: Mapping[str, Any]) -> int:
    """Run the step's container, its log to standard output; return its exit code."""
    secrets = {name: request.get("secrets", {}).get(secret, "") for name, secret in step.secrets.items()}
    image = request.get("images", {}).get(step.image, step.image)
    if image != step.image:
        print(f"# {image} stands for {step.image}", flush=True)
    network = f"drone-{uuid.uuid4().hex[:20]}"
    command = ["docker", "run", "--rm", "--pull=never", "--label=io.drone=true", f"--network={network}"]
    command += [f"--network-alias={step.name}", f"--workdir={WORKSPACE}"]
    command += [f"--volume={request['workspace']}:{WORKSPACE}"] if request.get("workspace") else []
    command += ["--privileged"] if step.privileged else []
    command += [f"--user={step.user}"] if step.user else []
    command += [f"--entrypoint={step.entrypoint[0]}"] if step.entrypoint else []
    environment = {**step.environment, **secrets}
    for name, value in environment.items():
        if name in RESTRICTED:  # `docker` itself would obey it
            if name in secrets:
                raise Refused(f"this stand-in for the runner takes no secret as {name}")
            command += ["--env", f"{name}={value}"]
        else:
            command += ["--env", name]
    command += [image, *step.entrypoint[1:], *step.command]
    handed = {name: value for name, value in environment.items() if name not in RESTRICTED}
    on_host(request, ["docker", "network", "create", "--label=io.drone=true", network], quiet=True)
    try:
        return on_host(request, command, handed, masked=[value for value in secrets.values() if value])
    finally:
        on_host(request, ["docker", "network", "rm", network], quiet=True)


def on_host(
    request: Mapping[str, Any],
    command: list[str],
    environment: Mapping[str, str] | None = None,
    *,
    masked: list[str] | None = None,
    quiet: bool = False,
) -> int:
    """Run a command on the host; return its exit code. Secrets are masked line by line, each of their lines."""
    there = ["docker", "exec", "-i", request["host"]] if request.get("host") else []
    process = subprocess.Popen(
        [*there, "python3", "-c", LAUNCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([command, environment or {}]))
    process.stdin.close()
    parts = sorted(
        {line for value in masked or () for line in value.splitlines() if line.strip()}, key=len, reverse=True
    )
    said = []
    for line in process.stdout:
        for part in parts:
            line = line.replace(part, "******")
        said.append(line)
        if not quiet:
            print(line, end="", flush=True)
    code = process.wait()
    if code and quiet:
        raise Refused(f"{' '.join(command[:3])}: {''.join(said).strip()}")
    return code


def main() -> None:
    """Show or run a step."""
    try:
        request = json.load(sys.stdin)
        step = compiled(request)
        if "--show" in sys.argv[1:]:
            json.dump(vars(step), sys.stdout, indent=1)
            return
        if step.skipped:
            print(f"# step {step.name} is skipped: its conditions are not met")
            return
        sys.exit(run(step, request))
    except Refused as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main()
