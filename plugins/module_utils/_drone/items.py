# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What belongs to a repository or a namespace of a Drone server: secrets, cron jobs, templates.

A place is listed once, however many of its items are wished; the listing decides what is made, changed and deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Collection, Iterable, Mapping, Sequence

from .._change_each import carry_out_each
from .._problem import Problem
from .client import Drone, Refused, Unreachable, repo_route, route, safe_to_repeat
from .repos import check_slugs, list_repos, unknown

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from .._change import Plan, Step

Row = Mapping[str, Any]

# Names that a proxy would take for another path: what was to be one item's would reach all of the repository.
DOTS = ("", ".", "..")


@dataclass(frozen=True)
class Place:
    """Where items live: a repository, by its slug, or a namespace."""

    name: str

    @property
    def is_repo(self) -> bool:
        return "/" in self.name

    def route(self, what: str, *parts: str) -> str:
        """Return the route of what lives here: Place("octocat").route("secrets") is secrets/octocat."""
        return repo_route(self.name, what, *parts) if self.is_repo else route(what, self.name, *parts)


@dataclass(frozen=True)
class Item:
    """One item by its place and name; "octocat/app1 nightly" in messages and results."""

    place: Place
    name: str

    def __str__(self) -> str:
        return f"{self.place.name} {self.name}"


@dataclass(frozen=True)
class Wish:
    """What is wished of one item: the fields that are given, or that it is absent."""

    fields: Row
    absent: bool = False


def check_places(places: Iterable[Place]) -> None:
    """Raise a Problem for what can be no repository and no namespace."""
    check_slugs([place.name for place in places if place.is_repo], globs=False)
    for place in places:
        if not place.is_repo and (
            place.name in DOTS or any(character.isspace() or not character.isprintable() for character in place.name)
        ):
            raise Problem(f"{place.name!r} is not a namespace", "name the owner of repositories, such as octocat")


def wishes_of(
    entries: Iterable[tuple[Item, Row]], fields: Collection[str], *, secret: Collection[str] = ()
) -> dict[Item, Wish]:
    """Return the wish for each item; raise a Problem where two entries for one disagree.

    `fields` are what an entry may give beside its `state`; the values of those in `secret` are never shown.
    """
    wishes: dict[Item, Wish] = {}
    for item, entry in entries:
        given = {name: entry[name] for name in fields if entry.get(name) is not None}
        wish = Wish({} if entry["state"] == "absent" else given, entry["state"] == "absent")
        other = wishes.setdefault(item, wish)
        if other.absent != wish.absent:
            raise Problem(f"{item} has two entries that disagree about state", "leave one of them out")
        for name in given:
            if name in other.fields and other.fields[name] != given[name]:
                values = "" if name in secret else f" is {other.fields[name]!r} and {given[name]!r}"
                raise Problem(f"{item} has two entries that disagree: {name}{values}", "leave one of them out")
        wishes[item] = Wish({**other.fields, **wish.fields}, wish.absent)
    return wishes


def read(drone: Drone, what: str, wishes: Mapping[Item, Wish]) -> dict[Item, Row]:
    """Return what is in the places of all wishes, one listing each, a few at a time.

    A repository that the server does not know has nothing, which is well where nothing is wished there; otherwise one
    Problem names all of them.
    """
    places = list(dict.fromkeys(item.place for item in wishes))

    def rows(place: Place) -> Any:
        try:
            return drone.get(place.route(what)) or []
        except Refused as refused:
            if refused.status == 404 and place.is_repo:
                return None
            raise

    listings = dict(zip(places, _each(rows, places, drone.connections)))
    needed = {item.place for item, wish in wishes.items() if not wish.absent}
    missing = [place.name for place in places if listings[place] is None and place in needed]
    if missing:
        raise _out_of_reach(drone, missing)
    return {Item(place, row["name"]): row for place in places for row in listings[place] or ()}


def names_in(drone: Drone, what: str, places: Collection[Place]) -> dict[Place, list[str]]:
    """Return the names of what each place has, a few places at a time; without those that the token's owner may not see."""

    def names(place: Place) -> list[str] | None:
        try:
            return sorted(row["name"] for row in drone.get(place.route(what)) or ())
        except Refused as refused:
            if refused.status in (401, 403, 404):
                return None
            raise

    found = dict(zip(places, _each(names, places, drone.connections)))
    return {place: value for place, value in found.items() if value is not None}


def _out_of_reach(drone: Drone, missing: Sequence[str]) -> Problem:
    """Return the Problem of repositories that answer 404: the server does not know them, or their secrets are not ours."""
    known = list_repos(drone)
    seen = [slug for slug in missing if slug in known]
    if seen:
        return Problem(
            f"`{drone.me().login}` may read {', '.join(seen)}, but not what belongs to them",
            "it takes write access at the source-code host, or an administrator's token",
        )
    problem = unknown(missing, known, drone)
    hint = "a new repository becomes known by drone_repo with missing=synchronize"
    return Problem(problem.what, hint, **problem.facts)


def others(world: Iterable[Item], wishes: Mapping[Item, Wish]) -> dict[Item, Wish]:
    """Return the wish that nothing else may be where something is wished."""
    if not wishes:
        raise Problem(
            "exclusive reaches as far as the list does, and the list is empty", "name an item, with state=absent"
        )
    return {item: Wish({}, absent=True) for item in world if item not in wishes}


def change(
    drone: Drone,
    module: AnsibleModule,
    plans: Mapping[Item, Plan],
    reread: Callable[[Mapping[Item, Plan]], Mapping[Item, Row]],
) -> dict[str, Any]:
    """Take the plans of all items, a few at a time and never two of one place, and read back what came of it.

    `reread` reads, in the shape of their plans' `after`, the items that were to be changed.
    """
    touched = {item: plan for item, plan in plans.items() if plan.steps}
    return carry_out_each(
        {str(item): plan for item, plan in _in_turns(plans)},
        check_mode=module.check_mode,
        at_a_time=drone.connections,
        reread=lambda: {str(item): row for item, row in reread(touched).items()},
        give_up_on=(Unreachable,),
    )


def create(drone: Drone, item: Item, what: str, body: Row, names: Collection[str]) -> Any:
    """Make an item; `names` are its neighbours', to say which one a database takes for the same."""
    path = item.place.route(what)
    try:
        # After a lost answer: whoever made it in between, it is there, and reading it back shows whether it is ours.
        return drone.post(path, body, look=lambda: drone.find(item.place.route(what, item.name)))
    except Refused as refused:
        same = [name for name in names if name.lower() == item.name.lower()]
        if refused.message.startswith("UNIQUE constraint") and same:
            hint = "name it so, or delete that first"
            # pylint takes Refused for no exception.
            raise Problem(  # pylint: disable=bad-exception-cause
                f"the server has {same[0]}, which its database takes for the same", hint
            ) from refused
        raise


def update(drone: Drone, item: Item, what: str, body: Row) -> Any:
    """Change an item."""
    return drone.patch(item.place.route(what, item.name), body, look=safe_to_repeat)


def delete(drone: Drone, item: Item, what: str) -> None:
    """Delete an item; one that somebody else has deleted meanwhile is deleted."""
    path = item.place.route(what, item.name)
    try:
        drone.delete(path, look=lambda: "gone" if drone.find(path) is None else None)
    except Refused as refused:
        if refused.status != 404:
            raise


def _in_turns(plans: Mapping[Item, Plan]) -> Iterable[tuple[Item, Plan]]:
    """Return the plans with places taking turns, so that a place with many items does not keep the others waiting."""
    import threading

    locks = {item.place: threading.Lock() for item in plans}
    turn: dict[Place, int] = {}
    ordered = []
    for item, plan in plans.items():
        turn[item.place] = turn.get(item.place, 0) + 1
        steps = [_locked(step, locks[item.place]) for step in plan.steps]
        ordered.append((turn[item.place], item, replace(plan, steps=steps)))
    return [(item, plan) for _unused, item, plan in sorted(ordered, key=lambda entry: entry[0])]


def _locked(step: Step, lock: Any) -> Step:
    def under_lock(do: Callable[[], object]) -> Callable[[], object]:
        def locked() -> object:
            with lock:
                return do()

        return locked

    return step._replace(apply=under_lock(step.apply), undo=under_lock(step.undo) if step.undo else None)


def _each(do: Callable[[Place], Any], places: Collection[Place], at_a_time: int) -> list[Any]:
    """Return what `do` returns for each place, a few at a time."""
    if len(places) < 2 or at_a_time < 2:
        return [do(place) for place in places]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(at_a_time, len(places))) as pool:
        running = [pool.submit(do, place) for place in places]
        try:
            return [future.result() for future in running]
        finally:
            for future in running:  # after an error nobody wants the rest
                future.cancel()
