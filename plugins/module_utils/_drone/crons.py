# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cron jobs of repositories: expressions as Drone reads them, and the plan for each job.

Drone reads expressions with github.com/robfig/cron, seconds first, and ignores a new one in a PATCH: so a job whose
expression changes is deleted and made anew, and put back as it was should that fail.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from .._change import Plan, Step
from .._problem import Problem, suggest
from .items import Item, Place, Row, Wish, change, check_places, create, delete, others, read, update, wishes_of

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from .client import Drone

FIELDS = ("expr", "branch", "target", "disabled")
# What a POST ignores, and a PATCH takes.
AFTERWARDS = ("target", "disabled")

WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
EVERY = re.compile(r"@every (\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+")
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
PARTS: Sequence[tuple[str, int, int, Sequence[str]]] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ["", *MONTHS]),
    ("day of the week", 0, 6, DAYS),
)


def check_expression(expr: str) -> None:
    """Raise a Problem unless an expression has six fields, or is a word such as @daily."""
    if expr.startswith("@"):
        if expr not in WORDS and not EVERY.fullmatch(expr):
            hint = suggest(expr, [*WORDS, "@every 1h30m"])
            raise Problem(f"{expr!r} is not a cron expression of Drone's", hint)
        return
    fields = expr.split()
    if len(fields) == 5:
        raise Problem(
            f"{expr!r} has five fields, which Drone reads seconds first, and thus in another way than crontab",
            f"write the seconds too: '0 {' '.join(fields)}'",
        )
    if len(fields) != 6:
        raise Problem(
            f"{expr!r} is not a cron expression of Drone's",
            "write six fields (second minute hour day month weekday, such as '0 0 1 * * *') or a word such as @daily",
        )
    for text, (name, low, high, names) in zip(fields, PARTS):
        if not all(_is_part(part, low, high, names) for part in text.split(",")):
            raise Problem(f"{expr!r}: {text!r} is not a valid {name}", f"it is {low} to {high}, a range, a list, or *")


def _is_part(part: str, low: int, high: int, names: Sequence[str]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step)):
        return False
    if span in ("*", "?"):
        return True
    ends = [
        int(end) if end.isdigit() else names.index(end.lower()) if end and end.lower() in names else -1
        for end in span.split("-")
    ]
    return len(ends) <= 2 and low <= ends[0] <= ends[-1] <= high


def check_name(name: str) -> None:
    """Raise a Problem for a name that Drone would change: it makes "Nightly Build" nightly-build."""
    if re.fullmatch(r"[a-z0-9_-]+", name) and "--" not in name and not set("-_") & {name[0], name[-1]}:
        return
    slug = re.sub(r"-+", "-", re.sub(r"[^a-z0-9_-]", "-", name.strip().lower())).strip("-_")
    raise Problem(
        f"Drone does not keep {name!r} as a cron job's name", f"name it {slug!r}" if slug else "use a-z, 0-9 and `-`"
    )


def wishes(entries: Sequence[Row]) -> dict[Item, Wish]:
    """Return the wish for each cron job; raise a Problem for what cannot be meant."""
    items = [Item(Place(entry["repo"]), entry["name"]) for entry in entries]
    check_places([item.place if item.place.is_repo else Place(f"{item.place.name}/") for item in items])
    for entry, item in zip(entries, items):
        check_name(item.name)
        if entry["state"] == "absent":
            continue
        if entry["expr"] is not None:
            check_expression(entry["expr"])
        if entry["branch"] is not None and not entry["branch"].strip():
            raise Problem(f"{item} has an empty branch", "name the branch that is built")
    return wishes_of(zip(items, entries), FIELDS)


def work(drone: Drone, module: AnsibleModule) -> dict[str, Any]:
    """Bring the cron jobs to what is wished."""
    wanted = wishes(module.params["crons"])
    world = {item: _job(row) for item, row in read(drone, "cron", wanted).items()}
    if module.params["exclusive"]:
        wanted.update(others(world, wanted))
    for item, wish in wanted.items():
        lacking = [name for name in ("expr", "branch") if name not in wish.fields]
        if lacking and not wish.absent and item not in world:
            raise Problem(f"{item} does not exist yet, and its {' and '.join(lacking)} is not given", "give it")
    plans = {item: _plan(drone, item, wish, world.get(item)) for item, wish in wanted.items()}

    def reread(touched: Mapping[Item, Plan]) -> dict[Item, Row]:
        found = read(drone, "cron", {item: Wish({}, absent=True) for item in touched})
        return {item: _job(found[item]) for item in touched if item in found}

    return change(drone, module, plans, reread)


def _job(row: Row) -> dict[str, Any]:
    """Return what a server's row says of a job; an empty target is left out there."""
    return {
        "expr": row["expr"],
        "branch": row["branch"],
        "target": row.get("target") or "",
        "disabled": row["disabled"],
    }


def _plan(drone: Drone, item: Item, wish: Wish, job: Row | None) -> Plan:
    if wish.absent:
        return Plan(job, {}, [_deletion(drone, item, job)]) if job else Plan({}, {})
    after = {"target": "", "disabled": False, **(job or {}), **wish.fields}
    after = {name: after[name] for name in FIELDS}
    if job is None:
        return Plan({}, after, _creation(drone, item, after))
    if after["expr"] != job["expr"]:
        return Plan(job, after, [_deletion(drone, item, job), *_creation(drone, item, after)])
    changes = {name: after[name] for name in FIELDS if after[name] != job[name]}
    return Plan(job, after, [_change(drone, item, changes)] if changes else [])


def _deletion(drone: Drone, item: Item, job: Row) -> Step:
    def put_back() -> None:
        try:
            for step in _creation(drone, item, job):
                step.apply()
        except Problem as problem:
            was = ", ".join(f"{name} {value!r}" for name, value in job.items())
            raise Problem(f"it is gone, and could not be made again: {problem.what}", f"it had {was}") from problem

    return Step(f"delete the job of {job['expr']}", partial(delete, drone, item, "cron"), put_back)


def _creation(drone: Drone, item: Item, job: Row) -> list[Step]:
    body = {"name": item.name, "expr": job["expr"], "branch": job["branch"]}

    def make() -> None:
        row = create(drone, item, "cron", body, ())
        if row["name"] != item.name:
            raise Problem(f"{drone.url} named it {row['name']}", "use that name")

    steps = [Step(f"create with {job['expr']}", make, partial(delete, drone, item, "cron"))]
    rest = {name: job[name] for name in AFTERWARDS if job[name]}
    return [*steps, _change(drone, item, rest)] if rest else steps


def _change(drone: Drone, item: Item, changes: Row) -> Step:
    parts = [
        f"set {name} to {str(value).lower() if isinstance(value, bool) else value}" for name, value in changes.items()
    ]
    return Step(", ".join(parts), partial(update, drone, item, "cron", changes))
