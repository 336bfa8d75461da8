# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets of repositories and organisations: what is wished, when a value is written, and the plan for each.

The server never returns a value. Whether one differs is known from fingerprints, or not at all.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from .._change import Plan, Step
from .._problem import Problem
from .items import (
    DOTS,
    Item,
    Place,
    Row,
    Wish,
    change,
    check_places,
    create,
    delete,
    names_in,
    others,
    read,
    update,
    wishes_of,
)

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from .client import Drone
    from .fingerprints import Fingerprints

FLAGS = ("pull_request", "pull_request_push")
NAME = re.compile(r"[a-zA-Z0-9_.-]+")  # Drone: core/secret.go
# What a diff shows instead of values.
UNKNOWN, WRITTEN = "not known to be this one", "written"


def wishes(entries: Sequence[Row]) -> dict[Item, Wish]:
    """Return the wish for each secret; raise a Problem for what cannot be meant."""
    items = [Item(Place(entry["repo"] or entry["namespace"] or ""), entry["name"]) for entry in entries]
    for entry, item in zip(entries, items):
        if entry["repo"] and not item.place.is_repo:
            raise Problem(
                f"{item}: {entry['repo']!r} is not a repository", "write repo as namespace/name, or say namespace"
            )
        if entry["namespace"] and item.place.is_repo:
            raise Problem(f"{item}: {entry['namespace']!r} is not a namespace", "it has no slash; or say repo")
        if not NAME.fullmatch(item.name) or item.name in DOTS:
            raise Problem(f"{item.name!r} is not a valid name for a secret", "use letters, digits, `_`, `-` and `.`")
        if entry["value"] == "" and entry["state"] == "present":
            raise Problem(f"{item} has an empty value, which Drone refuses", "leave value out to set its flags alone")
    check_places([item.place for item in items])
    return wishes_of(zip(items, entries), ("value", *FLAGS), secret=("value",))


def names(drone: Drone, slugs: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the secrets that repositories and their namespaces have, by place."""
    places = dict.fromkeys(name for slug in slugs for name in (slug, slug.split("/")[0]))
    return {place.name: found for place, found in names_in(drone, "secrets", [Place(name) for name in places]).items()}


def work(drone: Drone, module: AnsibleModule, fingerprints: Fingerprints | None) -> dict[str, Any]:
    """Bring the secrets to what is wished, and tell of which the value was not compared."""
    options = module.params
    wanted = wishes(options["secrets"])
    drone.hide(wish.fields["value"] for wish in wanted.values() if "value" in wish.fields)
    world = read(drone, "secrets", wanted)
    not_compared = []

    def differs(item: Item, value: str) -> bool:
        if options["update"] == "missing":
            not_compared.append(str(item))
            return False
        if options["update"] == "always" or fingerprints is None:
            return True
        return not fingerprints.matches(_key(drone, item), value)

    if options["exclusive"]:
        wanted.update(others(world, wanted))
    plans = {item: _plan(drone, item, wish, world, differs, fingerprints) for item, wish in wanted.items()}
    valueless = [str(item) for item, wish in wanted.items() if not wish.absent and item not in world and _empty(wish)]
    if valueless:
        raise Problem(f"no such secret yet, and no value to make it with: {', '.join(valueless)}", "give value")

    def reread(touched: Mapping[Item, Plan]) -> dict[Item, Row]:
        found = read(drone, "secrets", {item: Wish({}, absent=True) for item in touched})
        # That the server has the value, only its 200 says.
        written = {item: {"value": plan.after["value"]} for item, plan in touched.items() if "value" in plan.after}
        return {item: {**_flags(found[item]), **written.get(item, {})} for item in touched if item in found}

    try:
        result = change(drone, module, plans, reread)
    finally:
        # Whatever failed beside them: these were written, and the next run need not do it again.
        if fingerprints and not module.check_mode:
            try:
                fingerprints.save()
            except Problem as problem:
                module.warn(str(problem))
    if not_compared:
        result["msg"] = (
            f"the values of {len(not_compared)} secrets were not compared, since Drone never returns them "
            "(update=changed keeps fingerprints, update=always writes each time)"
        )
    return {**result, "not_compared": not_compared}


def _plan(
    drone: Drone,
    item: Item,
    wish: Wish,
    world: Mapping[Item, Row],
    differs: Callable[[Item, str], bool],
    fingerprints: Fingerprints | None,
) -> Plan:
    row = world.get(item)
    value = wish.fields.get("value")

    def noted(do: Callable[[], object]) -> None:
        do()
        if fingerprints and value is not None:
            fingerprints.note(_key(drone, item), value)
        elif fingerprints and wish.absent:
            fingerprints.forget(_key(drone, item))

    if wish.absent:
        if row is None:
            return Plan({}, {})
        return Plan(_flags(row), {}, [Step("delete", partial(noted, partial(delete, drone, item, "secrets")))])
    flags = {name: wish.fields[name] for name in FLAGS if name in wish.fields}
    if row is None:
        after = {**dict.fromkeys(FLAGS, False), **flags, "value": WRITTEN}
        names = [other.name for other in world if other.place == item.place]
        body = {"name": item.name, "data": value, **flags}
        return Plan({}, after, [Step("create", partial(noted, partial(create, drone, item, "secrets", body, names)))])
    before = _flags(row)
    after = {**before, **flags}
    body = {name: after[name] for name in FLAGS if after[name] != before[name]}
    parts = [f"set {name} to {str(after[name]).lower()}" for name in body]
    if value is not None and differs(item, value):
        before["value"], after["value"] = UNKNOWN, WRITTEN
        body["data"] = value
        parts.insert(0, "write the value")
    if not body:
        return Plan(before, after)
    return Plan(before, after, [Step(", ".join(parts), partial(noted, partial(update, drone, item, "secrets", body)))])


def _empty(wish: Wish) -> bool:
    return "value" not in wish.fields


def _flags(row: Row) -> dict[str, Any]:
    return {name: bool(row.get(name)) for name in FLAGS}


def _key(drone: Drone, item: Item) -> str:
    return f"{drone.url} {item}"
