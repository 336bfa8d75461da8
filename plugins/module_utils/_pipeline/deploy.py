# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring pipelines to where Drone reads them: a directory, branches of git repositories, a template of the server.

Each place is read, the wished text is made from what it has, and one step brings it there. Hundreds of repositories are
read and changed a few at a time; one that fails does not keep the others from being done.
"""

from __future__ import annotations

import json
import os
import posixpath
import random
import re
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Iterable, Mapping

from .._change import Plan, Step, carry_out
from .._change_each import FAILURES_SHOWN, carry_out_each
from .._drone.client import Drone, Unreachable, route
from .._drone.items import Item, Place, delete, update
from .._drone.templates import make
from .._platform import Platform, parse_all
from .._problem import Problem
from .checks import NEED_HOSTS, Server, check_hosts
from .git import Branch, Login, Raced, Remote
from .pipeline import Pipeline
from .strategies import check_cross, documents
from .yaml_dump import dump_all
from .yaml_patch import left_as_is, put, read, take

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

# How often a push that somebody else's came before is tried again, on top of theirs.
ATTEMPTS = 8


@dataclass
class Wish:
    """What a file shall hold, or with `absent` no longer, and what is looked at before."""

    pipeline: Pipeline
    scope: str
    absent: bool
    path: str  # of the file, below its root
    platforms: frozenset[Platform] | None = None  # what the hosts build; None: not known
    server: Server | None = None
    slug: str = ""
    skipped: set[str] = field(default_factory=set)
    warnings: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.documents = documents(self.pipeline)

    @property
    def paths(self) -> list[str]:
        """The files that it must see: the configuration, and for strategy cross the Dockerfile."""
        return [self.path, self.dockerfile] if self.pipeline.strategy == "cross" and not self.absent else [self.path]

    @property
    def dockerfile(self) -> str:
        """Where the Dockerfile is, below the root."""
        settings = {name.lower(): value for name, value in self.pipeline.settings.items()}
        return posixpath.normpath(self.pipeline.dockerfile or settings.get("dockerfile") or "Dockerfile")

    def text(self, files: Mapping[str, bytes | None], where: str) -> tuple[str, str]:
        """Return the file's text as it is and as it shall be; raise a Problem where a check fails."""
        before = decoded(files.get(self.path) or b"", f"{where}: {self.path}")
        pipeline, here = self.pipeline, f"{where}: {self.path}"
        if self.absent:
            after = take(before, self.documents, scope=self.scope, step=pipeline.step, where=here)
            return before, self._signed(before, after, here)
        if pipeline.strategy == "cross":
            dockerfile = files.get(self.dockerfile)
            if dockerfile is None:
                raise Problem(
                    f"{where}: there is no {self.dockerfile}", "set dockerfile, for strategy cross looks at it"
                )
            check_cross(decoded(dockerfile, self.dockerfile), f"{where}: {self.dockerfile}", pipeline.target)
        if self.platforms is None:
            self.skipped.add("platforms")
        elif pipeline.strategy in NEED_HOSTS:
            check_hosts(pipeline, self.platforms)
        if self.scope == "step" and before.strip():
            left = left_as_is(before, self.documents, here)
            if left and pipeline.strategy == "native":
                raise Problem(f"{here}: strategy native needs {', '.join(left)}", "set scope to pipeline")
            self.warnings.update(f"{here}: scope step leaves {one} as it is" for one in left)
        after = put(before, self.documents, scope=self.scope, step=pipeline.step, where=here)
        return before, self._checked(before, after, here)

    def _checked(self, before: str, after: str, here: str) -> str:
        """Return the text with its signature, once the server was asked for trust and secrets."""
        if self.server is None or not self.slug:
            self.skipped.update(("trust", "secrets"))
        else:
            self.server.check_trust(self.slug, self.documents)
            if after != before and not self.server.check_secrets(self.slug, self.documents, after):
                self.skipped.add("secrets")
        return self._signed(before, after, here)

    def _signed(self, before: str, after: str, here: str) -> str:
        """Return the text with the signature that a protected repository wants, as far as the server is known."""
        if self.server is not None and self.slug:
            return self.server.signed(self.slug, after) if after else after
        if after != before and any(document.kind == "signature" for document in read(after, here)):
            self.skipped.add("signature")
            self.warnings.add(f"{here}: its signature is not renewed, for drone_url is not set")
        return after


@dataclass
class Target:
    """A branch of a git repository, and what its file shall hold."""

    name: str
    remote: Remote
    branch: str
    wish: Wish
    message: str
    told: dict[str, Any] = field(default_factory=dict)
    problem: Problem | None = None
    _found: Branch | None = None
    _texts: tuple[str, str] | None = None

    def plan(self) -> Plan | None:
        """Return the way to the wish; None where `problem` says why there is none."""
        try:
            self._found = Branch.read(self.remote, self.branch, self.wish.paths)
            self._texts = before, after = self.wish.text(self._found.files, str(self.remote))
        except Problem as problem:
            self.problem = problem
            self.close()
            return None
        if before == after:
            self.close()
            return Plan({"text": before}, {"text": after})
        verb = "commit" if after else "commit the removal of"
        summary = f"{verb} {self.wish.path} to {self.branch or 'the default branch'}"
        return Plan({"text": before}, {"text": after}, [Step(summary, self.deploy)])

    def deploy(self) -> None:
        """Commit and push; where somebody else pushed first, make the text again on top of theirs and try again."""
        for attempt in range(ATTEMPTS):
            found = self._found or Branch.read(self.remote, self.branch, self.wish.paths)
            self._found = found
            try:
                before, after = self._texts or self.wish.text(found.files, str(self.remote))
                if before == after:
                    return
                commit = found.commit(self.wish.path, after.encode() if after else None, self.message)
                found.push(commit)
                self.told.update(commit=commit, branch=found.name)
                return
            except Raced:
                if attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(random.uniform(0.05, 0.2) * (attempt + 1))
            finally:
                self.close()

    def close(self) -> None:
        """Remove what was fetched."""
        if self._found is not None:
            self._found.drop()
            self._found = self._texts = None


def deploy(module: AnsibleModule) -> dict[str, Any]:
    """Do what the module's options say."""
    options = module.params
    server = _server(module)
    if options["path"] is not None:
        return _to_directory(module, server)
    if options["template"] is not None:
        return _to_template(module, server)
    return _to_repositories(module, server)


# A directory


def _to_directory(module: AnsibleModule, server: Server | None) -> dict[str, Any]:
    """Write the file into a directory; nothing is committed."""
    options = module.params
    root = options["path"]
    if not os.path.isdir(root):
        raise Problem(f"{root} is no directory", "set path to the repository's root; config_path names the file in it")
    wish = _wish(module, server, {}, options["slug"] or "")
    files = {path: _file(root, path) for path in wish.paths}
    before, after = wish.text(files, root)
    target = os.path.realpath(os.path.join(root, wish.path))

    def write() -> None:
        if not after:
            os.remove(target)
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".drone-")
        with os.fdopen(handle, "wb") as stream:
            stream.write(after.encode())
        if not os.path.exists(target):
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
        module.atomic_move(temporary, target)

    steps = [Step(f"{'write' if after else 'remove'} {wish.path}", write)] if before != after else []
    plan = Plan({"text": before}, {"text": after}, steps)
    result = carry_out(
        plan,
        check_mode=module.check_mode,
        reread=lambda: {"text": decoded(_file(root, wish.path) or b"", target)},
    )
    return _told(module, {**result, "text": after}, [wish], {target: result["diff"]} if steps else {})


def _file(root: str, path: str) -> bytes | None:
    """Return a file below a root; raise a Problem where a link leads out of it."""
    target = os.path.realpath(os.path.join(root, path))
    if os.path.commonpath([target, os.path.realpath(root)]) != os.path.realpath(root):
        raise Problem(f"{path} leads out of {root}, to {target}", "name a file below path")
    if os.path.isdir(target):
        raise Problem(f"{target} is a directory", "set config_path to a file")
    if not os.path.exists(target):
        return None
    with open(target, "rb") as stream:
        return stream.read()


# Git repositories


def _to_repositories(module: AnsibleModule, server: Server | None) -> dict[str, Any]:
    """Commit the file to each repository's branch, a few repositories at a time."""
    from concurrent.futures import ThreadPoolExecutor

    options = module.params
    at_a_time = options["at_a_time"]
    if at_a_time < 1:
        raise Problem(f"at_a_time is {at_a_time}", "give at least one")
    targets = _targets(module, server)
    if server is not None and targets:
        server.drone.me()  # a wrong token is one error, not one for each repository
        server.load()
    with ThreadPoolExecutor(max(1, min(at_a_time, len(targets)))) as pool:
        planned = list(pool.map(Target.plan, targets))
    plans = {target.name: plan for target, plan in zip(targets, planned) if plan is not None}
    try:
        facts = carry_out_each(plans, check_mode=module.check_mode, at_a_time=at_a_time, give_up_on=(Unreachable,))
    except Problem as problem:
        if "results" not in problem.facts:
            raise
        facts = dict(problem.facts)
    finally:
        for target in targets:
            target.close()
    rows = {row["name"]: row for row in facts.pop("results")}
    results = [_result(target, rows.get(target.name, {})) for target in targets]
    after = facts["diff"]["after"]
    diffs = {
        f"{name} {next(target.wish.path for target in targets if target.name == name)}": {
            side: facts["diff"][side][name] for side in ("before", "after")
        }
        for name in after
    }
    # Not `results`: in a loop Ansible takes that for its own, and shows no difference.
    facts = {**facts, "repos": results}
    facts = _told(module, facts, [target.wish for target in targets], diffs)
    failed = [result for result in results if result.get("failed")]
    if failed:
        shown = "; ".join(result["msg"] for result in failed[:FAILURES_SHOWN])
        more = f"; and {len(failed) - FAILURES_SHOWN} more" if len(failed) > FAILURES_SHOWN else ""
        raise Problem(
            f"{len(failed)} of {len(results)} failed: {shown}{more}",
            "mend it and run again" if len(results) == 1 else "the others are done; mend these and run again",
            **facts,
        )
    return facts


def _targets(module: AnsibleModule, server: Server | None) -> list[Target]:
    """Return the repositories that are named; everything that can be refused without looking at one is refused here."""
    options = module.params
    login = Login(
        options["git_username"] or "",
        options["git_password"] or "",
        options["git_ssh_key"] or "",
        options["commit_author"],
        options["git_timeout"],
    )
    message = options["commit_message"]
    if not message.strip():
        raise Problem("commit_message is empty", "say what the commit does")
    targets: dict[str, Target] = {}
    for entry in options["repos"]:
        remote = Remote.parse(entry["url"], login)
        branch = entry["branch"] or options["branch"] or ""
        if re.search(r"^-|\.\.|[\x00-\x20~^:?*\[\\]|^/|/$|\.lock$|^@$", branch):
            raise Problem(f"{remote}: {branch!r} is no branch's name", "write it as git branch shows it")
        slug = entry["slug"] or slug_of(remote)
        wish = _wish(module, server, entry, slug)
        name = str(remote) + (f"#{entry['branch']}" if entry["branch"] else "")
        name += f" {wish.path}" if entry["config_path"] else ""
        if name in targets:
            raise Problem(f"{name} is named twice in repos", "keep one of them")
        targets[name] = Target(name, remote, branch, wish, message)
    return list(targets.values())


def slug_of(remote: Remote) -> str:
    """Return the repository's name in Drone: the last two parts of its URL."""
    parts = [part for part in re.split(r"[/:]", re.sub(r"(/?\.git)?/*$", "", remote.url)) if part]
    return "/".join(parts[-2:])


def _result(target: Target, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what happened to one repository."""
    told = {"name": target.name, "changed": False, **row, **target.told, "skipped_checks": sorted(target.wish.skipped)}
    if target.problem is not None:
        told.update(failed=True, msg=str(target.problem))
    return told


# A template of the server's


def _to_template(module: AnsibleModule, server: Server | None) -> dict[str, Any]:
    """Put the pipeline into a template: one change for every repository that loads it."""
    options = module.params["template"]
    namespace, name = options["namespace"], options["name"]
    if server is None:
        raise Problem("a template is the Drone server's, and drone_url is not set", "set drone_url and drone_token")
    if not re.fullmatch(r"[\w.-]+\.ya?ml", name, re.ASCII):
        raise Problem(
            f"{name!r} is no name of a template in YAML", "end it in .yaml; Drone ignores other endings silently"
        )
    wish = _wish(module, server, {}, "")
    if wish.pipeline.strategy == "cross":
        wish.skipped.add("dockerfile")
    wish.skipped.update(("trust", "secrets"))
    if wish.platforms is None:
        wish.skipped.add("platforms")
    elif wish.pipeline.strategy in NEED_HOSTS:
        check_hosts(wish.pipeline, wish.platforms)
    drone = server.drone
    after = None if wish.absent else dump_all(wish.documents)

    def find() -> dict[str, Any]:
        row = drone.find(route("templates", namespace, name))
        return {"text": row["data"] if row else None}

    before = find()

    item = Item(Place(namespace), name)
    steps = []
    if before["text"] != after:
        if after is None:
            verb, how = "delete", partial(delete, drone, item, "templates")
        elif before["text"] is None:
            verb, how = "create", partial(make, drone, item, after, ())
        else:
            verb, how = "change", partial(update, drone, item, "templates", {"data": after})
        steps = [Step(f"{verb} template {namespace}/{name}", how)]
    result = carry_out(Plan(before, {"text": after}, steps), check_mode=module.check_mode, reread=find)
    diffs = {f"template {namespace}/{name}": result["diff"]} if steps else {}
    return _told(module, {**result, "text": after or ""}, [wish], diffs)


# What they share


def _server(module: AnsibleModule) -> Server | None:
    options = module.params
    if not options["drone_url"]:
        return None
    if not options["drone_token"]:
        raise Problem("drone_url is set and drone_token is not", "set it, or DRONE_TOKEN; or leave both out")
    return Server(
        Drone.of(module),
        options["privileged_images"] or (),
        options["known_trusted"] or (),
        options["known_secrets"] or (),
    )


def _wish(module: AnsibleModule, server: Server | None, entry: Mapping[str, Any], slug: str) -> Wish:
    """Return the wish for one place: the pipeline that all have, and what this one has otherwise."""
    options = module.params
    given = {name: value for name, value in (options["pipeline"] or {}).items() if value is not None}
    description = {**given, **(entry.get("pipeline") or {})}
    path = entry.get("config_path") or options["config_path"]
    if path != posixpath.normpath(path) or path.startswith(("/", "..")) or re.search(r"[\x00-\x1f]", path):
        raise Problem(f"config_path {path!r} is no path below the repository's root", "write it as .drone.yml")
    if re.search(r"\.(star|starlark|jsonnet|libsonnet)$", path, re.IGNORECASE):
        raise Problem(
            f"config_path {path} is a program that makes a pipeline, and no YAML",
            "set it to the YAML file that Drone reads, or write the pipeline into the program yourself",
        )
    pipeline = Pipeline.parse(
        description, allow_plaintext=options["allow_plaintext"], privileged_images=options["privileged_images"] or ()
    )
    if not options["template"] and "{{ .input" in json.dumps([description, path]):
        raise Problem(
            f"pipeline {pipeline.name} has {{{{ .input… }}}}, which Drone puts in for templates alone",
            "deploy it as a template, or write the value",
        )
    platforms = options["runner_platforms"]
    return Wish(
        pipeline,
        options["scope"],
        options["state"] == "absent",
        path,
        None if platforms is None else frozenset(parse_all(platforms)),
        server,
        slug,
    )


def _told(
    module: AnsibleModule, facts: Mapping[str, Any], wishes: Iterable[Wish], diffs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the result: what was not looked at, warnings, and the difference as the texts that it is in."""
    every = list(wishes)
    for warning in sorted({warning for wish in every for warning in wish.warnings}):
        module.warn(warning)
    diff = [
        {
            "before_header": name,
            "after_header": name,
            "before": sides["before"].get("text") or "",
            "after": sides["after"].get("text") or "",
        }
        for name, sides in diffs.items()
    ]
    return {**facts, "skipped_checks": sorted({check for wish in every for check in wish.skipped}), "diff": diff}


def decoded(content: bytes, where: str) -> str:
    """Return a file's text; raise a Problem where it is none."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(f"{where} is no text in UTF-8", "mend the file; it was left alone") from error
