# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Templates of namespaces: the plan for each, and the two routes over which Drone makes one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from .._change import Plan, Step
from .._problem import Problem
from .client import Refused
from .items import DOTS, Item, Place, Row, Wish, change, check_places, create, delete, others, read, update, wishes_of

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from .client import Drone

# What Drone can convert; 2.0 takes any name, and fails when a build uses it.
EXTENSIONS = (".yml", ".yaml", ".star", ".starlark", ".script", ".jsonnet")


def wishes(entries: Sequence[Row]) -> dict[Item, Wish]:
    """Return the wish for each template; raise a Problem for what cannot be meant."""
    for entry in entries:
        name = f"{entry['namespace']} {entry['name']}"
        if "/" in entry["namespace"]:
            raise Problem(f"{entry['namespace']!r} is not a namespace", "templates belong to the part before the slash")
        if entry["name"] in DOTS or "/" in entry["name"] or not entry["name"].isprintable():
            raise Problem(f"{entry['name']!r} is not a valid name for a template", "name a file, such as images.yaml")
        if entry["state"] == "absent":
            continue
        if not entry["name"].endswith(EXTENSIONS):
            raise Problem(f"{name}: Drone cannot tell what it is", f"let its name end with {', '.join(EXTENSIONS)}")
        if entry["data"] == "":
            raise Problem(f"{name} is empty, which Drone refuses", "give data, or state=absent")
    items = [Item(Place(entry["namespace"]), entry["name"]) for entry in entries]
    check_places([item.place for item in items])
    return wishes_of(zip(items, entries), ("data",))


def work(drone: Drone, module: AnsibleModule) -> dict[str, Any]:
    """Bring the templates to what is wished."""
    wanted = wishes(module.params["templates"])
    world = {item: _content(row) for item, row in read(drone, "templates", wanted).items()}
    if module.params["exclusive"]:
        wanted.update(others(world, wanted))
    for item, wish in wanted.items():
        if not wish.absent and item not in world and "data" not in wish.fields:
            raise Problem(f"{item} does not exist yet, and has no data", "give data")
    plans = {item: _plan(drone, item, wish, world) for item, wish in wanted.items()}

    def reread(touched: Mapping[Item, Plan]) -> dict[Item, Row]:
        found = read(drone, "templates", {item: Wish({}, absent=True) for item in touched})
        return {item: _content(found[item]) for item in touched if item in found}

    return change(drone, module, plans, reread)


def _content(row: Row) -> dict[str, Any]:
    return {"data": row.get("data", "")}


def _plan(drone: Drone, item: Item, wish: Wish, world: Mapping[Item, Row]) -> Plan:
    row = world.get(item)
    if wish.absent:
        return Plan(row, {}, [Step("delete", partial(delete, drone, item, "templates"))]) if row else Plan({}, {})
    after = {**(row or {}), **wish.fields}
    if row is None:
        names = [other.name for other in world if other.place == item.place]
        return Plan({}, after, [Step("create", partial(make, drone, item, after["data"], names))])
    if after == row:
        return Plan(row, after)
    step = Step(
        "set data", partial(update, drone, item, "templates", after), partial(update, drone, item, "templates", row)
    )
    return Plan(row, after, [step])


def make(drone: Drone, item: Item, data: str, names: Sequence[str]) -> None:
    """Make a template in its namespace, as newer servers want it, or at the root, as 2.0 does."""
    body = {"name": item.name, "data": data}
    try:
        create(drone, item, "templates", body, names)
    except Refused as refused:
        # 405, Method Not Allowed: nothing was done, and asking costs less than knowing each version.
        if refused.status != 405:
            raise
    else:
        return
    try:
        look = partial(drone.find, item.place.route("templates", item.name))
        drone.post("templates", {**body, "namespace": item.place.name}, look=look)
    except Refused as refused:
        if refused.message == "UNIQUE constraint failed: templates.template_name":
            # pylint takes Refused for no exception.
            raise Problem(  # pylint: disable=bad-exception-cause
                f"{drone.url} has a template of this name in another namespace, and its version takes only one",
                "give it another name",
            ) from refused
        raise
