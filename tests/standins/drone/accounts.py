# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts, as Drone's handlers treat them."""

from __future__ import annotations

import re
import time
from dataclasses import replace

from .access import Answer, Call, error, one
from .golang import decode
from .model import User


def users_list(call: Call) -> object:
    return [user.json() for user in sorted(call.state.users, key=lambda user: user.login)]


def users_create(call: Call) -> object:
    kinds: dict[str, type] = {"login": str, "machine": bool, "admin": bool, "token": str}
    fields = {"login": "", **decode(call.body, "User", kinds)}
    if not 1 <= len(fields["login"].encode()) <= 50:
        raise error(400, "Invalid username length")
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", fields["login"]):
        raise error(400, "Invalid character in username")
    token = fields.pop("token", "") or call.state.new_token()
    now = int(time.time())
    made = call.state.users.insert(
        lambda id: User(id=id, token=token, created=now, updated=now, **fields),
        key=lambda user: user.login.lower(),
        columns="users.user_login",
    )
    return made.json(token=made.machine)  # the only time that the token is shown


def _user(call: Call) -> User:
    return one(call.state.by_login(call.names["user"]))


def users_find(call: Call) -> object:
    return _user(call).json()


def users_update(call: Call) -> object:
    changes = decode(call.body, "userInput", {"admin": bool, "active": bool})
    if changes.get("active") is False:
        changes["admin"] = False
    user = call.state.users.update(replace(_user(call), **changes))
    if not user.active:
        call.state.transfer(user)
    return user.json()


def users_delete(call: Call) -> Answer:
    user = _user(call)
    call.state.transfer(user)
    call.state.users.delete(user)
    call.state.perms.pop(user.login, None)
    return Answer(204)
