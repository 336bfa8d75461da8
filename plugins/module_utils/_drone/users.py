# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts of a Drone server: the plan for each, and the tokens of new machine accounts."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from .._change import Plan, Step
from .._change_each import carry_out_each
from .._problem import Problem
from .client import Drone, Refused, Unreachable, route, safe_to_repeat
from .items import Item, Place, Row, Wish, wishes_of

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

FIELDS = ("machine", "admin", "active", "token")
SHOWN = ("machine", "admin", "active")
CHANGEABLE = ("admin", "active")
LOGIN = re.compile(r"[a-zA-Z0-9_-]{1,50}")  # Drone: core/user.go


def wishes(entries: Sequence[Row]) -> dict[str, Wish]:
    """Return the wish for each login; raise a Problem for what cannot be meant."""
    for entry in entries:
        login = entry["login"]
        if not LOGIN.fullmatch(login):
            raise Problem(f"{login!r} is not a valid login", "use at most 50 letters, digits, `_` and `-`")
        if entry["active"] is False and entry["admin"]:
            raise Problem(f"{login} is to be inactive, and an administrator", "Drone makes nobody both: leave one out")
        if entry["token"] is not None and not re.fullmatch(r"[!-~]{16,}", entry["token"]):
            raise Problem(f"the token for {login} is too short or has odd characters", "use 16 or more, without spaces")
    by_item = wishes_of([(Item(Place(""), entry["login"]), entry) for entry in entries], FIELDS, secret=("token",))
    found = {item.name: wish for item, wish in by_item.items()}
    lower = {login.lower(): login for login in found}
    for login in found:
        if lower[login.lower()] != login:
            raise Problem(f"{login} and {lower[login.lower()]} are one account to Drone", "leave one of them out")
    return found


def work(drone: Drone, module: AnsibleModule) -> dict[str, Any]:
    """Bring the accounts to what is wished, and return the tokens of new machines."""
    wanted = wishes(module.params["users"])
    drone.hide(wish.fields["token"] for wish in wanted.values() if "token" in wish.fields)
    drone.need_admin("managing users")
    world = _users(drone)
    for login, wish in wanted.items():
        _check(drone, login, wish, world)
    if module.params["exclusive"]:
        me = drone.me().login
        strangers = [login for login, user in world.items() if user["machine"] and login not in {*wanted, me}]
        wanted.update((login, Wish({}, absent=True)) for login in strangers)
    tokens: dict[str, str] = {}
    plans = {login: _plan(drone, login, wish, world.get(login), tokens) for login, wish in wanted.items()}
    try:
        result = carry_out_each(
            plans,
            check_mode=module.check_mode,
            at_a_time=drone.connections,
            reread=partial(_users, drone),
            give_up_on=(Unreachable,),
        )
    except Problem as problem:
        # Somebody else's failure must not lose a token that nobody can ask for again.
        problem.facts["tokens"] = tokens
        raise
    return {**result, "tokens": tokens}


def _users(drone: Drone) -> dict[str, dict[str, Any]]:
    # Not by pages: Drone lists all users at once.
    return {row["login"]: {name: bool(row[name]) for name in SHOWN} for row in drone.get("users") or ()}


def _check(drone: Drone, login: str, wish: Wish, world: Mapping[str, Row]) -> None:
    """Raise a Problem for a wish that Drone would swallow, or that would saw off the branch we sit on."""
    user = world.get(login)
    for other in world:
        if user is None and other.lower() == login.lower():
            raise Problem(f"{drone.url} knows {login} as {other}", "write it so: Drone takes both for one account")
    if user and "machine" in wish.fields and wish.fields["machine"] != user["machine"]:
        kinds = {True: "a machine's", False: "a person's"}
        raise Problem(
            f"{login} is {kinds[user['machine']]} account, which cannot become {kinds[not user['machine']]}",
            "delete it first (state=absent), which ends its token",
        )
    loses = wish.absent or wish.fields.get("admin") is False or wish.fields.get("active") is False
    if login == drone.me().login and loses:
        raise Problem(f"{login} is the account whose token is used here", "use another administrator's token for that")


def _plan(drone: Drone, login: str, wish: Wish, user: Row | None, tokens: dict[str, str]) -> Plan:
    if wish.absent:
        return Plan(user, {}, [Step("delete", partial(_delete, drone, login))]) if user else Plan({}, {})
    given = {name: wish.fields[name] for name in SHOWN if name in wish.fields}
    after = {"machine": False, "admin": False, "active": True, **(user or {}), **given}
    if not after["active"]:
        after["admin"] = False  # Drone does so without a word
    if user is not None:
        changes = {name: after[name] for name in CHANGEABLE if after[name] != user[name]}
        return Plan(user, after, [_change(drone, login, changes)] if changes else [])

    def undo() -> None:
        _delete(drone, login)
        tokens.pop(login, None)

    kind = "a machine account" if after["machine"] else "an account"
    making = partial(_create, drone, login, after, wish.fields.get("token"), tokens)
    steps = [Step(f"create {kind}{', an administrator' if after['admin'] else ''}", making, undo)]
    if not after["active"]:  # made active, always
        steps.append(_change(drone, login, {"active": False}))
    return Plan({}, after, steps)


def _create(drone: Drone, login: str, user: Row, token: str | None, tokens: dict[str, str]) -> None:
    body: dict[str, Any] = {"login": login, "machine": user["machine"], "admin": user["admin"]}
    if token or user["machine"]:
        # A token of our own making: should the answer get lost, the token is not.
        body["token"] = token or os.urandom(16).hex()
        drone.hide([body["token"]])
    row = drone.post("users", body, look=lambda: drone.find(route("users", login)))
    if row["login"] != login:
        raise Problem(f"the source-code host spells it {row['login']}", "write it so")
    if user["machine"] and not token:
        tokens[login] = body["token"]


def _change(drone: Drone, login: str, changes: Row) -> Step:
    words = {
        ("admin", True): "make an administrator",
        ("admin", False): "make no administrator",
        ("active", True): "activate",
        ("active", False): "deactivate",
    }
    summary = ", ".join(words[name, value] for name, value in changes.items())
    return Step(summary, lambda: drone.patch(route("users", login), changes, look=safe_to_repeat))


def _delete(drone: Drone, login: str) -> None:
    path = route("users", login)
    try:
        drone.delete(path, look=lambda: "gone" if drone.find(path) is None else None)
    except Refused as refused:
        if refused.status != 404:
            raise
