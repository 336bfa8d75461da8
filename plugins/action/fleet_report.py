# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write the report of a fleet from what the plays before have registered. It runs on the controller and asks nobody."""

from __future__ import annotations

import datetime
import json
import os
import re
from pathlib import Path
from typing import Any, Iterator, Mapping

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._buildx.info import cache_total
from ..module_utils._report import fleet, page, prometheus, text, words

OPTIONS = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "directory": {"type": "path", "required": True},
    "prometheus": {"type": "path"},
    "fail_on": {"type": "str", "choices": ["drift", "broken", "never"], "default": "never"},
    "drone": {"type": "dict", "default": {}},
    "pipelines": {"type": "list", "elements": "dict", "default": []},
    "pipeline_results": {"type": "list", "elements": "dict", "default": []},
    "pipelines_deployed": {"type": "bool", "default": False},
    "pipelines_failed": {"type": "str", "default": ""},
    "images": {"type": "list", "elements": "dict", "default": []},
    "images_named": {"type": "list", "elements": "str", "default": []},
    "images_failed": {"type": "str", "default": ""},
    "certificates": {"type": "path"},
    "sections": {
        "type": "list",
        "elements": "dict",
        "options": {"title": {"type": "str"}, "text": {"type": "str"}},
        "default": [],
    },
}
# What goes into the document as it is.
AS_GIVEN = (
    *("drone", "pipelines", "pipeline_results", "pipelines_deployed", "pipelines_failed"),
    *("images", "images_named", "images_failed"),
)
TEMPLATE = Path(__file__).parents[2] / "playbooks/templates/report.html.j2"
MANIFEST = Path(__file__).parents[2] / "MANIFEST.json"
# Which variable of a host holds what, as playbooks/report.yml registers it.
REGISTERED = {
    "host": "__docker_engine_host",
    "config": "__docker_engine_config",
    "missing_packages": "__report_missing_packages",
    "qemu": "__qemu_info",
    "builders": "__builder_verified",
    "builder_info": "__report_builder_info",
    "runner": "drone_runner_result",
    "failed": "__report_failed",
    "started": "__report_started",
    "looked": "__report_looked",
    "proofs": "__report_proofs",
}


class ActionModule(ActionBase):
    """What Ansible loads."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Make the document, compare it with the last one, write its forms, and say how the fleet is."""
        result = super().run(tmp, task_vars)
        options = self.validate_argument_spec(OPTIONS)[1]
        directory = Path(options["directory"])
        now = datetime.datetime.now(datetime.timezone.utc)
        variables = task_vars["hostvars"]
        found = {host: _found(variables[host]) for host in options["hosts"]}
        started = [row["started"] for row in found.values() if row.get("started")]
        if "__report_started" in task_vars:
            started.append(self._templar.template(task_vars["__report_started"]))
        raw = {
            "version": _version(),
            "generated": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_seconds": now.timestamp() - min(map(float, started)) if started else None,
            "hosts": found,
            "certificates": list(_certificates(Path(options["certificates"]), now)) if options["certificates"] else [],
            **{name: options[name] for name in AS_GIVEN},
        }
        document = fleet.report(raw, _before(directory / "report.json"))
        told = text.render(document)
        changed = False
        if not self._task.check_mode:
            forms = {
                directory / "report.json": json.dumps(document, indent=1) + "\n",
                directory / "report.txt": told,
                directory / "report.html": page.render(
                    TEMPLATE.read_text(encoding="utf-8"), document, options["sections"]
                ),
            }
            if options["prometheus"]:
                forms[Path(options["prometheus"])] = prometheus.render(document)
            try:
                for path, content in forms.items():
                    _write(path, content)
            except AnsibleActionFail as error:
                # Returned, not raised, so that a playbook can judge it.
                return {**result, "failed": True, "msg": str(error)}
            changed = True
        result.update(
            changed=False,
            written=[str(path) for path in forms] if changed else [],
            summary=document["summary"],
            text=told.splitlines(),
        )
        worst = fleet.worst(document)
        failing = {"never": (), "broken": ("broken",), "drift": ("broken", "drift")}[options["fail_on"]]
        if worst in failing:
            result.update(failed=True, msg=f"{words.verdict(document)}; report_fail_on is {options['fail_on']}")
        return result


def _found(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the plays registered of one host."""
    found = {name: variables[variable] for name, variable in REGISTERED.items() if variable in variables}
    look = found.get("host") or {}
    unreachable = variables["__report_unreachable"] if "__report_unreachable" in variables else look.get("unreachable")
    found["unreachable"] = bool(unreachable) or not found
    found.update(_seen_at_once(look))
    results = found.get("builders")
    found["builders"] = results["results"] if results and "results" in results else []
    proofs = found.pop("proofs", None) or {}
    # Between these lines stands what `docker buildx du` says of a builder.
    parts = re.split(r"(?m)^multiarch\.drone\.verify (\S+) (\S+)\r?$", proofs.get("stdout") or "")[1:]
    found["caches"] = [
        {"name": name, "user": user, "bytes": cache_total(said)}
        for name, user, said in zip(parts[::3], parts[1::3], parts[2::3])
    ]
    info = found.get("builder_info")
    found["builder_info"] = {row["item"]: row for row in info["results"]} if info and "results" in info else {}
    # As data without Ansible's lazy containers, so that each value is templated once.
    return json.loads(json.dumps(found, default=str))


def _seen_at_once(look: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers of which the look at all of them has said that they are as declared, as their own tasks register them."""
    layers = {name: layer for name, layer in (look.get("layers") or {}).items() if layer["as_declared"]}
    found: dict[str, Any] = {
        name: {**layers[layer]["facts"], "steps": []}
        for layer, name in (("engine", "config"), ("qemu", "qemu"), ("runner", "runner"))
        if layer in layers
    }
    if "builders" in layers:
        rows = [
            {**row["facts"], "steps": [], "item": {"name": row["name"], "user": row["user"]}}
            for row in layers["builders"]["results"]
        ]
        found["builders"] = {"results": rows}
    # Such a host leaves verify.yml there: there is nothing more to look at.
    if layers and len(layers) == len(look["layers"]) and look.get("proof", {}).get("kept"):
        found["looked"] = True
    return found


def _certificates(directory: Path, now: datetime.datetime) -> Iterator[dict[str, Any]]:
    """Yield the certificates in the directory in which the role buildkitd keeps them."""
    from cryptography import x509

    kinds = {
        ("instances", "ca.pem"): "authority",
        ("instances", "cert.pem"): "server",
        ("clients", "cert.pem"): "client",
    }
    for path in sorted(directory.glob("*/**/*.pem")):
        parts = path.relative_to(directory).parts
        kind = kinds.get((parts[0], parts[-1]))
        if kind is None:
            continue
        try:
            ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        except (OSError, ValueError) as error:
            Display().warning(f"{path} is not a certificate that can be read: {error}")
            continue
        daemon, name = (parts[2], parts[1]) if kind == "client" else (parts[1], parts[2])
        yield {"daemon": daemon, "kind": kind, "name": name, "ends": f"{ends:%Y-%m-%d}", "days_left": (ends - now).days}


def _before(path: Path) -> dict[str, Any] | None:
    """Return the last document; None where there is none that can be read."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        Display().warning(f"{path} is not compared with: {error}")
        return None
    if isinstance(before, dict) and before.get("schema") == fleet.SCHEMA:
        return before
    Display().warning(f"{path} is not compared with: it is not a report of this version")
    return None


def _write(path: Path, content: str) -> None:
    """Write a file at once, readable by whom the umask lets read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise AnsibleActionFail(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if temporary.exists():
            temporary.unlink()


def _version() -> str:
    """Return the version of the collection: of its manifest once installed, of galaxy.yml in a checkout."""
    if MANIFEST.exists():
        return str(json.loads(MANIFEST.read_text(encoding="utf-8"))["collection_info"]["version"])
    lines = MANIFEST.with_name("galaxy.yml").read_text(encoding="utf-8").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("version:"))
