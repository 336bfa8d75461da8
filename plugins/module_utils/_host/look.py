# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A runner host and all its layers, looked at once: what each layer's own module would do in check mode. Nothing is changed."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Mapping, cast

from .._docker import engine as _engine
from .._docker import host as _host
from .._docker.info import ARGUMENTS as HOST
from .._docker.info import judged
from .._docker.packages import check_names
from .._problem import Problem
from .._values import check_values
from .busy import drains, locks, moves, traces
from .layers import LAYERS, Layer, layer, validated
from .limit import as_user, time_limit
from .proof import proof

if TYPE_CHECKING:
    from .._arguments import Module

# What is looked at, as an argument spec. The wishes are free here: what one layer refuses does not keep the others from being told.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    **HOST,
    **{name: {"type": "raw"} for name in LAYERS},
    "timeout": {"type": "int", "default": 60},
}
PLAN = ("changed", "steps", "diff")
ON_ENGINE = ("engine", "builders", "runner")


class Asker:
    """What a layer's own work takes for its module: options, in check mode, and ears for warnings and secrets."""

    check_mode = True

    def __init__(self, module: Module, params: dict[str, Any]) -> None:
        self.params = params
        self.no_log_values = module.no_log_values
        self.warnings: list[str] = []

    def warn(self, warning: str) -> None:
        """Keep a warning of the layer's."""
        self.warnings.append(warning)


def work(module: Module) -> dict[str, Any]:
    """Return the result of runner_host_info."""
    wanted = module.params
    check_values(ARGUMENTS, wanted)
    check_names(wanted["packages"])
    if wanted["timeout"] < 1:
        raise Problem("timeout: nothing is read in less than a second", "write a number from 1 on")
    asked = [name for name in LAYERS if wanted[name] is not None]
    if not asked:
        return judged(module, _host.read(packages=wanted["packages"], disk_path=wanted["disk_path"]))
    with _engine.asked_once(), _buildx_version(wanted) as buildx:
        # An engine that hangs is told by the layers that need it; it does so once.
        silent: list[Problem] = []
        host = _host.read(packages=wanted["packages"], disk_path=wanted["disk_path"], silent=silent)
        result = judged(module, host)
        looks = {name: _looked_at(module, name, wanted[name], silent) for name in asked}
        result["docker"]["buildx"] = buildx()
        restless = moves(_engine.unit(), _engine.unit_now())
    for name, told in looks.items():
        if name in ON_ENGINE:
            told["busy"] += [f"{name}: {reason}" for reason in restless]
        told["as_declared"] = not (told["steps"] or told["problems"] or told["busy"])
        for warning in told.pop("warnings"):
            module.warn(warning)
        if not module._diff:
            for entry in (told, *told.get("results", ())):
                entry.pop("diff", None)
    if "qemu" in looks and not looks["qemu"]["problems"]:
        result["platforms"] = _platforms()
    if "qemu" in looks and "builders" in looks:
        result["proof"] = proof(result, str(host.engine.info.get("ID", "")) if host.engine else "", looks)
    return {**result, "layers": looks, "as_declared": [name for name in asked if looks[name]["as_declared"]]}


def _platforms() -> dict[str, list[str]]:
    """Return the platforms that the CPU runs, and those that a handler runs, as binfmt_qemu_info tells of all that are known."""
    from .._binfmt.declare import describe

    rows = describe({"platforms": ["all"], "verify": False})["platforms"]
    return {
        "native": [row["platform"] for row in rows if row["native"]],
        "emulated": [row["platform"] for row in rows if row["enabled"]],
    }


@contextlib.contextmanager
def _buildx_version(wanted: Mapping[str, Any]) -> Any:
    """Start to ask the CLI for its buildx, where the engine is asked for; the answer is waited for last."""
    if wanted["engine"] is None:
        yield lambda: ""
        return
    from .._docker.cli import Docker

    try:
        call = Docker().start("buildx", "version", timeout=20)
    except Problem:
        yield lambda: ""
        return
    heard: list[str] = []

    def answer() -> str:
        try:
            said = call.wait(check=False)
        except Problem:
            said = None
        heard.append(said.out.strip() if said and not said.rc else "")
        return heard[0]

    try:
        yield answer
    finally:
        if not heard:
            call.end()


def _looked_at(module: Module, name: str, wish: Any, silent: list[Problem]) -> dict[str, Any]:
    """Return what there is of a layer and what its own module would do, whatever hinders that from being found out."""
    try:
        found = layer(name)
    except Problem as problem:
        return _failed(f"{name}: {problem}")
    if name != "builders":
        return _one(module, name, found, wish, name, silent)
    if not isinstance(wish, list):
        return _failed("builders is not a list; write a list of dictionaries")
    results = []
    for index, entry in enumerate(wish):
        given = entry if isinstance(entry, dict) else {}
        who = {"name": str(given.get("name") or ""), "user": str(given.get("user") or _own_name())}
        told = _one(module, name, found, entry, f"builders[{index}] ({who['name']} of {who['user']})", silent)
        results.append({**who, **told})
    return _together(results)


def _own_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _together(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the builders of all users as one layer."""
    of = {f"{told['name']} of {told['user']}": told for told in results}
    whole: dict[str, Any] = {
        "changed": any(told["changed"] for told in results),
        "steps": [f"{whose}: {step}" for whose, told in of.items() for step in told["steps"]],
        "diff": {
            side: {whose: told["diff"][side] for whose, told in of.items() if told["diff"][side]}
            for side in ("before", "after")
        },
        "facts": {},
    }
    for name in ("problems", "busy", "warnings"):
        whole[name] = [text for told in results for text in told[name]]
    for told in results:
        del told["warnings"]
    return {**whole, "results": results}


def _one(module: Module, name: str, found: Layer, wish: Any, where: str, silent: list[Problem]) -> dict[str, Any]:
    seconds = module.params["timeout"]
    try:
        params = validated(found, wish)
        _need_engine(name, params, silent)
        user = params.pop("user", None)
        asker = Asker(module, params)
        told: dict[str, Any]
        if user:
            told = as_user(user, lambda: _read(name, found, asker, where, seconds), seconds)
        else:
            told = _read(name, found, asker, where, seconds)
    except Problem as problem:
        return _failed(f"{where}: {problem}", problem.facts)
    except OSError as error:
        return _failed(f"{where}: {error.filename or 'this host'}: {error.strerror or error}")
    except Exception as error:
        # A bug of ours in one layer is told, and is no reason to keep quiet about the others.
        return _failed(f"{where}: this is a bug: {type(error).__name__}: {error}; please report it")
    return told


def _need_engine(name: str, params: Mapping[str, Any], silent: list[Problem]) -> None:
    """Raise a Problem where a layer would wait for an engine that hangs, or start one that is stopped by asking it."""
    by_cli = (name == "builders" and params["driver"] in ("docker", "docker-container")) or (
        name == "qemu" and params["source"] == "image"
    )
    if silent and (by_cli or name == "runner"):
        raise silent[0]
    state = _engine.unit()
    if by_cli and state.installed and not state.active:
        raise Problem("the Docker engine does not run", "start it: role multiarch.drone.docker_engine")


def _read(name: str, found: Layer, asker: Asker, where: str, seconds: float) -> dict[str, Any]:
    """Return what a layer's own work tells in check mode, and what hinders that from being true for long."""
    with time_limit(seconds, where):
        busy = locks(name)
        before = traces(name, asker.params)
        result = dict(found.work(cast("Module", asker)))
        if traces(name, asker.params) != before:
            busy.append("it was changed by something else while it was read")
        busy += [reason for reason in locks(name) if reason not in busy]
        if name == "runner" and result["steps"]:
            busy += drains()
    warnings = [*result.pop("warnings", ()), *asker.warnings]
    facts = {name: value for name, value in result.items() if name not in PLAN}
    return {
        **{name: result[name] for name in PLAN},
        "facts": facts,
        "problems": [],
        "busy": [f"{where}: {reason}" for reason in busy],
        "warnings": warnings,
    }


def _failed(problem: str, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a layer of which nothing is known but why."""
    return {
        "changed": False,
        "steps": [],
        "diff": {"before": {}, "after": {}},
        "facts": dict(facts or {}),
        "problems": [problem],
        "busy": [],
        "warnings": [],
    }
