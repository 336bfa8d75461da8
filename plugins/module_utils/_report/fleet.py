# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The state of a fleet as one document: what was found on its hosts, in Drone and in the registries, and what needs a person.

The modules' results go in, as the playbook registered them; a value of JSON comes out. Nothing is asked or written here.
What could not be read is a finding, and never taken for "as declared".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Iterable, Iterator, Mapping, Sequence

from .._drone.slugs import is_glob, matching
from .._image.reference import Reference
from .._platform import parse_all
from .._problem import Problem

SCHEMA = 1
# From what stops the job to what is only good to know.
BROKEN, DRIFT, NOTE = "broken", "drift", "note"
SEVERITIES = (BROKEN, DRIFT, NOTE)
# A certificate that ends within so many days needs a person; role buildkitd renews it earlier where it is run.
CERTIFICATE_DAYS = 14


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    severity: str
    layer: str  # host, engine, qemu, builder, buildkitd, runner, drone, pipelines or images
    subject: str  # the host, repository or image
    text: str
    new: bool = False  # whether the report before did not have it

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same finding in another report."""
        return (self.severity, self.layer, self.subject, self.text)


def report(raw: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the document: `raw` is what was found, `before` is the last document."""
    given = _mapping(raw.get("hosts"))
    looked = any(_mapping(found).get("looked") for found in given.values())
    hosts = [_host(name, _mapping(found), looked=looked) for name, found in sorted(given.items())]
    drone = _drone(_mapping(raw.get("drone")))
    pipelines = _pipelines(raw, before or {})
    images = [_image(row) for row in _rows(raw.get("images"))]
    unread = set(_texts(raw.get("images_named"))) - {image["reference"] for image in images}
    why = str(raw.get("images_failed") or "it cannot be read").splitlines()
    images += [_image({"reference": name, "message": _about(name, why)}) for name in sorted(unread)]
    certificates = [_certificate(row) for row in _rows(raw.get("certificates"))]
    findings = [
        *(finding for host in hosts for finding in _of_host(host)),
        *_of_drone(drone),
        *_of_pipelines(pipelines, str(raw.get("pipelines_failed") or "")),
        *_of_images(images, pipelines),
        *_of_certificates(certificates),
    ]
    known = {Finding(**{**row, "new": False}).key for row in _rows((before or {}).get("findings")) if _is_finding(row)}
    if before is not None:
        findings = [Finding(*finding.key, new=finding.key not in known) for finding in findings]
    findings.sort(
        key=lambda finding: (SEVERITIES.index(finding.severity), not finding.new, finding.layer, finding.subject)
    )
    found = {finding.key for finding in findings}
    return {
        "schema": SCHEMA,
        "version": raw.get("version") or "",
        "generated": raw.get("generated") or "",
        "duration_seconds": raw.get("duration_seconds"),
        "summary": {
            "hosts": len(hosts),
            "unreachable": sum(not host["reachable"] for host in hosts),
            **{severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES},
            "new": sum(finding.new for finding in findings),
        },
        "findings": [asdict(finding) for finding in findings],
        "since": {
            "generated": (before or {}).get("generated") or "",
            "gone": [
                dict(zip(("severity", "layer", "subject", "text"), key)) for key in sorted(known) if key not in found
            ],
        },
        "platforms": sorted({row["platform"] for host in hosts for row in host["platforms"]}),
        "hosts": hosts,
        "drone": drone,
        "pipelines": pipelines,
        "images": images,
        "certificates": certificates,
    }


def worst(document: Mapping[str, Any]) -> str:
    """Return the worst severity that a document has, or ""."""
    return next((severity for severity in SEVERITIES if document["summary"][severity]), "")


# From results to rows


def _host(name: str, found: Mapping[str, Any], *, looked: bool) -> dict[str, Any]:
    """Return one host: its layers, each as found, and the steps that a run would take.

    `looked` says that the playbook marks hosts which it looked at to the end: one without the mark failed before.
    """
    failed = {layer: str(text) for layer, text in sorted(_mapping(found.get("failed")).items())}
    if looked and not found.get("looked") and not found.get("unreachable"):
        failed["host"] = "The run could not look at this host to the end: it failed before, or its connection broke."
    host = _mapping(found.get("host"))
    engine = _mapping(host.get("docker"))
    config = _mapping(found.get("config"))
    runner = _mapping(_mapping(found.get("runner")).get("runner"))
    distribution = _mapping(host.get("distribution"))
    drift = [{"layer": "engine", "step": step} for step in _texts(config.get("steps"))]
    drift += [{"layer": "engine", "step": f"install {name}"} for name in _texts(found.get("missing_packages"))]
    drift += [
        {"layer": "builder", "step": f"{row['name']} of {row['user']}: {step}"}
        for row in map(_builder_result, _rows(found.get("builders")))
        for step in row["steps"]
    ]
    drift += [{"layer": "runner", "step": step} for step in _texts(_mapping(found.get("runner")).get("steps"))]
    return {
        "name": name,
        "reachable": not found.get("unreachable"),
        "failed": failed,
        "distribution": str(distribution.get("name") or ""),
        "kernel": str(host.get("kernel") or ""),
        "architecture": str(host.get("architecture") or ""),
        "engine": {
            "running": bool(engine.get("running")),
            "enabled": bool(engine.get("enabled")),
            "version": str(engine.get("version") or ""),
            "store": "containerd" if engine.get("containerd_store") else "classic" if engine.get("running") else "",
            "images": engine.get("images"),
            "containers": engine.get("containers"),
        }
        if engine
        else None,
        "platforms": [_platform(row) for row in _rows(_mapping(found.get("qemu")).get("platforms"))],
        "builders": _builders(found),
        "runner": {
            "name": str(runner.get("name") or ""),
            "image": str(runner.get("image") or ""),
            "server": str(runner.get("server") or ""),
            "healthy": bool(runner.get("healthy")),
            "reaches_server": bool(runner.get("reaches_server")),
            "capacity": runner.get("capacity"),
            "builds": _texts(runner.get("builds")),
            "privileged_images": _texts(runner.get("privileged_images")),
        }
        if runner
        else None,
        "drift": drift,
    }


def _platform(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a platform as binfmt_qemu_info describes it."""
    return {
        "platform": str(row.get("platform") or ""),
        "native": bool(row.get("native")),
        "handler": str(row.get("name") or ""),
        "qemu": str(row.get("kernel_version") or row.get("version") or ""),
        "verified": row.get("verified"),
        "survives_restart": bool(row.get("native") or row.get("persistent")),
        "problems": _texts(row.get("problems")),
    }


def _builder_result(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run would do to a builder, and why it cannot be judged where it cannot."""
    item = _mapping(row.get("item"))
    return {
        "name": str(item.get("name") or ""),
        "user": str(item.get("user") or ""),
        "steps": _texts(row.get("steps")),
        "message": "" if "steps" in row else str(row.get("msg") or ""),
        "builder": _mapping(row.get("builder")),
    }


def _builders(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the declared builders of a host, with what each user's buildx says of its caches."""
    caches = {
        (str(user), str(builder.get("name"))): [
            _mapping(node).get("cache_bytes") for node in _rows(builder.get("nodes"))
        ]
        for user, answer in _mapping(found.get("builder_info")).items()
        for builder in _rows(_mapping(answer).get("builders"))
    }
    proven = {
        (str(row.get("user")), str(row.get("name"))): row["bytes"]
        for row in _rows(found.get("caches"))
        if isinstance(row.get("bytes"), int)
    }
    rows = []
    for row in map(_builder_result, _rows(found.get("builders"))):
        nodes = [
            {
                "name": str(node.get("name") or ""),
                "endpoint": str(node.get("endpoint") or ""),
                "status": str(node.get("status") or ""),
                "platforms": _texts(node.get("platforms")),
                "buildkit": str(node.get("buildkit_version") or ""),
            }
            for node in _rows(row["builder"].get("nodes"))
        ]
        cache = [size for size in caches.get((row["user"], row["name"]), []) if isinstance(size, int)]
        rows.append(
            {
                "name": row["name"],
                "user": row["user"],
                "driver": str(row["builder"].get("driver") or ""),
                "nodes": nodes,
                "cache_bytes": sum(cache) if cache else proven.get((row["user"], row["name"])),
                "steps": row["steps"],
                "message": row["message"],
            }
        )
    return rows


def _drone(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return who is trusted, by which line of the inventory, and what a run would change on the server."""
    patterns = [(pattern, f"drone_repos_trusted: {pattern}") for pattern in _texts(raw.get("trusted"))]
    patterns += [
        (str(row.get("slug")), f"drone_repos_repos: {row.get('slug')}")
        for row in _rows(raw.get("declared"))
        if row.get("trusted")
    ]
    known = {str(row.get("slug") or ""): row for row in _rows(raw.get("repos"))}
    lines: dict[str, str] = {}
    for pattern, line in patterns:
        for slug in matching(pattern, known) if is_glob(pattern) and "/" in pattern else [pattern]:
            lines.setdefault(slug, line)
    repos = [
        {
            "slug": slug,
            "active": bool(row.get("active")),
            "trusted": bool(row.get("trusted")),
            "declared_by": lines.get(slug, ""),
        }
        for slug, row in sorted(known.items())
    ]
    return {
        "server": str(raw.get("server") or ""),
        "failed": str(raw.get("failed") or ""),
        "exclusive": bool(raw.get("exclusive")),
        "repos": repos,
        "drift": [
            {"part": str(part), "step": step}
            for part, steps in sorted(_mapping(raw.get("steps")).items())
            for step in _texts(steps)
        ],
    }


def _pipelines(raw: Mapping[str, Any], before: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each repository's pipeline: as declared, and as a run found it or left it.

    A run that finds all as declared makes no commit: then the last one of ours is the one that the last report has.
    """
    declared = _rows(raw.get("pipelines"))
    deployed = bool(raw.get("pipelines_deployed"))
    secrets = _mapping(_mapping(raw.get("drone")).get("secrets"))
    commits = {
        str(row.get("repository")): str(row.get("commit") or "")
        for row in _rows(before.get("pipelines"))
        if not row.get("changed")
    }
    rows = []
    for result in _rows(raw.get("pipeline_results")):
        item = result.get("item")
        entry = _mapping(declared[item]) if isinstance(item, int) and 0 <= item < len(declared) else {}
        own = _rows(entry.get("repos"))
        alone = {
            "name": entry.get("slug") or entry.get("path") or _mapping(entry.get("template")).get("name") or "",
            "changed": bool(result.get("steps")),
            "failed": result.get("failed"),
            "msg": result.get("msg"),
        }
        repos = _rows(result.get("repos"))
        for number, repo in enumerate(repos or [alone]):
            other = _mapping(own[number].get("pipeline")) if repos and len(own) == len(repos) else {}
            pipeline = {**_mapping(entry.get("pipeline")), **other}
            name = str(repo.get("name") or "")
            changed = bool(repo.get("changed"))
            rows.append(
                {
                    "repository": name,
                    "strategy": str(pipeline.get("strategy") or "emulated"),
                    "image": str(pipeline.get("repo") or ""),
                    "platforms": _platform_names(pipeline.get("platforms")),
                    "changed": changed and not deployed,
                    "commit": str(repo.get("commit") or "") or ("" if changed else commits.get(name, "")),
                    "missing_secrets": _missing_secrets(repo, secrets),
                    "message": str(repo.get("msg") or "it cannot be read") if repo.get("failed") else "",
                }
            )
    return rows


def _missing_secrets(repo: Mapping[str, Any], have: Mapping[str, Any]) -> list[str]:
    """Return the secrets that a pipeline takes and neither its repository nor its namespace has, where both are known."""
    slug = str(repo.get("slug") or "")
    places = (slug, slug.partition("/")[0])
    if not all(place in have for place in places):
        return []
    return sorted(set(_texts(repo.get("secrets"))) - {name for place in places for name in _texts(have[place])})


def _about(name: str, lines: Sequence[str]) -> str:
    """Return the line of a message about several images that names one of them, or else all lines."""
    try:
        full = str(Reference.parse(name))
    except Problem as problem:
        return str(problem)
    return next((line for line in lines if name in line or full in line), " ".join(lines))


def _image(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an image as its registry has it."""
    return {
        "reference": str(row.get("reference") or ""),
        "digest": str(row.get("digest") or ""),
        "platforms": [
            {"platform": str(entry.get("platform") or ""), "bytes": entry.get("bytes")}
            for entry in _rows(row.get("platforms"))
        ],
        "message": str(row.get("message") or ""),
    }


def _certificate(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one certificate of a remote daemon."""
    return {key: row.get(key) for key in ("name", "kind", "daemon", "ends", "days_left")}


# From rows to findings


def _of_host(host: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with one host."""
    name = host["name"]
    if not host["reachable"]:
        yield Finding(BROKEN, "host", name, "The host cannot be reached.")
        return
    findings = list(_of_layers(host))
    # What a role says where a layer is not as declared sums up what the layer's own findings say one by one.
    told = {finding.layer for finding in findings}
    yield from (Finding(BROKEN, layer, name, text) for layer, text in host["failed"].items() if layer not in told)
    yield from findings


def _of_layers(host: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the layers of a host that was looked at."""
    name = host["name"]
    engine = host["engine"]
    if engine and not engine["running"]:
        yield Finding(BROKEN, "engine", name, "The Docker engine does not run.")
    elif engine and not engine["enabled"]:
        yield Finding(BROKEN, "engine", name, "The Docker engine does not start at boot.")
    for row in host["platforms"]:
        if row["problems"]:
            yield Finding(BROKEN, "qemu", name, f"{row['platform']}: {'; '.join(row['problems'])}")
        elif row["verified"] is False:
            yield Finding(BROKEN, "qemu", name, f"{row['platform']} cannot be executed.")
        elif not row["survives_restart"]:
            yield Finding(DRIFT, "qemu", name, f"{row['platform']} is not there after the next start.")
    for row in host["builders"]:
        where = f"builder {row['name']} of {row['user']}"
        if row["message"]:
            yield Finding(BROKEN, "builder", name, f"{where}: {row['message']}")
        for node in row["nodes"]:
            if node["status"] not in ("running", "inactive", ""):
                yield Finding(BROKEN, "builder", name, f"{where}: node {node['name']} is {node['status']}")
    runner = host["runner"]
    if runner and not runner["healthy"]:
        yield Finding(BROKEN, "runner", name, "The runner is not healthy: it does not take builds.")
    elif runner and not runner["reaches_server"]:
        yield Finding(BROKEN, "runner", name, f"The runner does not reach {runner['server']}.")
    for step in host["drift"]:
        yield Finding(DRIFT, step["layer"], name, f"A run would: {step['step']}")


def _of_drone(drone: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the server's state."""
    if drone["failed"]:
        yield Finding(BROKEN, "drone", drone["server"], drone["failed"])
    for row in drone["drift"]:
        yield Finding(DRIFT, "drone", drone["server"], f"A run would, for {row['part']}: {row['step']}")
    for row in drone["repos"]:
        if row["trusted"] and not row["declared_by"] and not drone["exclusive"]:
            yield Finding(
                NOTE, "drone", row["slug"], "The repository is trusted, and no line of the inventory declares it."
            )


def _of_pipelines(pipelines: Iterable[Mapping[str, Any]], failed: str) -> Iterator[Finding]:
    """Yield what is wrong with the pipelines."""
    if failed:
        yield Finding(BROKEN, "pipelines", "", failed)
    for row in pipelines:
        if row["missing_secrets"]:
            text = f"The pipeline takes {', '.join(row['missing_secrets'])}, and neither the repository nor its namespace has such a secret."
            yield Finding(BROKEN, "pipelines", row["repository"], text)
        if row["message"]:
            yield Finding(BROKEN, "pipelines", row["repository"], row["message"])
        elif row["changed"]:
            yield Finding(DRIFT, "pipelines", row["repository"], "A run would commit the declared pipeline.")


def _of_images(images: Sequence[Mapping[str, Any]], pipelines: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield which images lack a platform that their pipeline declares."""
    wanted: dict[str, set[str]] = {}
    for pipeline in pipelines:
        wanted.setdefault(_repository(pipeline["image"]), set()).update(pipeline["platforms"])
    for image in images:
        if image["message"]:
            yield Finding(NOTE, "images", image["reference"], image["message"])
            continue
        have = {row["platform"] for row in image["platforms"]}
        missing = sorted(wanted.get(_repository(image["reference"]), set()) - have)
        if missing:
            yield Finding(BROKEN, "images", image["reference"], f"The registry does not have {', '.join(missing)}.")


def _repository(name: str) -> str:
    """Return an image's registry and repository: of octocat/app:1 that is docker.io/octocat/app."""
    try:
        reference = Reference.parse(name)
    except Problem:
        return name
    return f"{reference.registry}/{reference.repository}"


def _platform_names(value: Any) -> list[str]:
    """Return platforms as OCI names them: linux/arm64 for aarch64; what names none stays as it is."""
    texts = [value] if isinstance(value, str) else _texts(value)
    try:
        return [str(platform) for platform in parse_all(texts)] if texts else []
    except Problem:
        return texts


def _of_certificates(certificates: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield which certificates end soon."""
    for row in certificates:
        days = row["days_left"]
        if isinstance(days, int) and days < CERTIFICATE_DAYS:
            text = (
                f"The certificate of {row['kind']} {row['name']} ended."
                if days < 0
                else f"The certificate of {row['kind']} {row['name']} ends in {days} days."
            )
            yield Finding(BROKEN if days < 0 else DRIFT, "buildkitd", str(row["daemon"]), text)


# Shapes: a result that a task did not bring, or that has another shape, is nothing


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _rows(value: Any) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, (list, tuple)) else []


def _texts(value: Any) -> list[str]:
    return [str(text) for text in value] if isinstance(value, (list, tuple)) else []


def _is_finding(row: Mapping[str, Any]) -> bool:
    return set(row) == {"severity", "layer", "subject", "text", "new"} and row["severity"] in SEVERITIES
