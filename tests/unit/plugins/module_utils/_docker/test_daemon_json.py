# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""daemon.json is merged three ways: what others wrote stays, what is no longer declared goes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._docker import daemon_json as dj

THEIRS = {"labels": ["rack=1"], "log-opts": {"max-size": "10m"}, "bip": "10.9.0.1/24"}


def declare(file: dict[str, Any], wish: dict[str, Any], ours: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    wish = dj.declared(wish)
    return dj.merge(file, wish, ours), dj.owned(file, wish, ours)


def test_what_others_wrote_stays() -> None:
    file, ours = declare(THEIRS, {"labels": ["ci=1"], "log-opts": {"max-file": "3"}, "live-restore": True}, {})
    assert file == {
        "labels": ["ci=1", "rack=1"],
        "log-opts": {"max-size": "10m", "max-file": "3"},
        "bip": "10.9.0.1/24",
        "live-restore": True,
    }
    assert ours == {"labels": ["ci=1"], "log-opts": {"max-file": "3"}, "live-restore": True}


def test_what_is_no_longer_declared_goes_down_to_one_element_of_a_list() -> None:
    file, ours = declare(THEIRS, {"labels": ["a=1", "b=1"], "debug": True, "features": {"x": True}}, {})
    file, ours = declare(file, {"labels": ["b=1"]}, ours)
    assert file == {**THEIRS, "labels": ["b=1", "rack=1"]}
    assert ours == {"labels": ["b=1"]}


def test_what_others_wrote_first_is_not_ours_even_where_it_is_the_same() -> None:
    file, ours = declare({"live-restore": True, "labels": ["a=1"]}, {"live-restore": True, "labels": ["a=1"]}, {})
    assert ours == {}
    assert declare(file, {}, ours) == ({"live-restore": True, "labels": ["a=1"]}, {})


def test_a_value_that_somebody_changed_since_is_theirs_now() -> None:
    file, ours = declare({}, {"bip": "10.1.0.1/24"}, {})
    assert declare({**file, "bip": "10.2.0.1/24"}, {}, ours) == ({"bip": "10.2.0.1/24"}, {})


@pytest.mark.parametrize("wish", [{"live-restore": True}, {"log-opts": {"max-size": "9m"}}, {"dns": ["9.9.9.9"]}])
def test_a_value_that_gave_way_to_a_declared_one_comes_back_with_its_type(wish: dict[str, Any]) -> None:
    theirs = {"live-restore": False, "log-opts": {"max-size": "10m", "max-file": "3"}, "dns": "1.1.1.1"}
    file, ours = declare(theirs, wish, {})
    replaced = dj.replaces(theirs, wish, {})
    # Declared again, and then otherwise: what was there first is remembered.
    assert dj.replaces(file, wish, ours, replaced) == replaced
    assert dj.merge(file, {}, ours, replaced) == theirs
    for option in wish:
        changed = {**file, option: "somebody's"}
        assert dj.merge(changed, {}, ours, replaced)[option] == "somebody's"


def test_null_and_empty_values_declare_nothing() -> None:
    assert declare(THEIRS, {"debug": None, "dns": [], "log-opts": {"x": None}, "labels": []}, {}) == (THEIRS, {})


def test_false_and_zero_are_declared() -> None:
    assert dj.declared({"live-restore": False, "max-concurrent-downloads": 0}) == {
        "live-restore": False,
        "max-concurrent-downloads": 0,
    }


def test_a_value_of_another_type_is_replaced() -> None:
    assert declare({"dns": "1.1.1.1"}, {"dns": ["9.9.9.9"]}, {})[0] == {"dns": ["9.9.9.9"]}


def test_the_order_of_a_file_is_kept() -> None:
    file, _ours = declare(
        {"z": 1, "labels": ["x=1"], "a": {"q": 1, "b": 2}}, {"labels": ["y=1"], "a": {"c": 3}, "b": 1}, {}
    )
    assert json.dumps(file) == '{"z": 1, "labels": ["y=1", "x=1"], "a": {"q": 1, "b": 2, "c": 3}, "b": 1}'


@pytest.mark.parametrize("seed", range(200))
def test_declaring_twice_changes_nothing_and_taking_away_gives_the_first_file_back(seed: int) -> None:
    chance = random.Random(seed)

    def some(names: str, depth: int = 0) -> dict[str, Any]:
        """Values whose type hangs on the name, as those of daemon.json do; names apart from each other stay so."""
        found: dict[str, Any] = {}
        for name in names:
            if chance.random() < 0.5:
                continue
            kind = ord(name) % 3
            if kind == 0 and depth < 2:
                found[name] = some(names, depth + 1) or {"leaf": 1}
            elif kind == 1:
                found[name] = chance.sample(["p", "q", "r", "s"], chance.randint(1, 3))
            else:
                found[name] = chance.choice([True, False, 0, 1, "x"])
        return found

    theirs, wish, other = some("abcdef"), some("ghijkl"), some("ghijkl")
    file, ours = declare(theirs, wish, {})
    assert declare(file, wish, ours) == (file, ours)
    moved, moved_ours = declare(file, other, ours)
    assert moved == declare(theirs, other, {})[0]
    assert declare(moved, {}, moved_ours) == (theirs, {})


@pytest.mark.parametrize(
    ("old", "new", "needs"),
    [
        ({}, {}, ""),
        ({}, {"registry-mirrors": ["https://m"], "live-restore": True}, "reload"),
        ({}, {"data-root": "/srv"}, "restart"),
        ({"debug": True}, {}, "reload"),
        ({"bip": "1"}, {}, "restart"),
        ({}, {"features": {"containerd-snapshotter": True}}, "restart"),
        ({}, {"features": {"buildkit": True}}, "reload"),
        ({"features": {"containerd-snapshotter": True}}, {"features": {"containerd-snapshotter": True, "cdi": True}}, "reload"),
        ({"features": None}, {}, ""),
        ({"features": ["nonsense"]}, {"features": {"cdi": True}}, "reload"),
    ],
)  # fmt: skip
def test_the_engine_is_restarted_only_where_a_reload_is_not_enough(
    old: dict[str, Any], new: dict[str, Any], needs: str
) -> None:
    assert dj.follow(old, new) == needs


INFO = {
    "LiveRestoreEnabled": True,
    "Labels": ["a=1"],
    "RegistryConfig": {
        "Mirrors": ["https://m1.example/"],
        "InsecureRegistryCIDRs": ["127.0.0.0/8"],
        "IndexConfigs": {"docker.io": {"Secure": True}, "registry:5000": {"Secure": False}},
    },
}


def test_an_engine_that_holds_what_is_declared_is_seen_so() -> None:
    wish = {
        "live-restore": True,
        "labels": ["a=1"],
        "registry-mirrors": ["https://m1.example"],
        "insecure-registries": ["registry:5000", "http://registry:5000", "10.1.2.3/8"],
        "features": {"containerd-snapshotter": True, "cdi": True},
        "bip": "not shown by the engine",
    }
    assert dj.running(wish, INFO, True) == dj.promised(wish)


def test_an_engine_that_was_never_told_is_seen() -> None:
    wish = {
        "live-restore": False,
        "registry-mirrors": ["https://m2"],
        "insecure-registries": ["other"],
        "features": {"containerd-snapshotter": True},
    }
    assert dj.running(wish, INFO, False) == {
        "live-restore": True,
        "registry-mirrors": [],
        "insecure-registries": [],
        "features": {"containerd-snapshotter": False},
    }


@pytest.mark.parametrize("password", ["p@ss", "p/ss", "p%40ss", "p:ss"])
def test_a_password_with_any_character_is_hidden_whole(password) -> None:
    config = {
        "proxies": {"https-proxy": f"http://joe:{password}@proxy.example.com:3128"},
        "registry-mirrors": ["https://tok3n@m"],
    }
    shown = str(dj.without_secrets({}, config))
    assert "ss@" not in shown
    assert password not in shown
    assert "tok3n" not in shown
    assert "@proxy.example.com:3128" in shown


def test_passwords_are_never_shown_but_their_change_is() -> None:
    old = {
        "proxies": {"http-proxy": "http://me:hunter2@proxy:1"},
        "log-opts": {"splunk-token": "t0k3n-old", "tag": "x"},
    }
    new = {
        "proxies": {"http-proxy": "http://me:hunter3@proxy:1"},
        "log-opts": {"splunk-token": "t0k3n-new", "tag": "x"},
    }
    shown = dj.without_secrets(old, new)
    assert shown[0] != shown[1]
    assert not [secret for secret in ("hunter", "t0k3n") if secret in str(shown)]
    assert "proxy:1" in str(shown)
    assert dj.without_secrets(old, old)[0] == dj.without_secrets(old, old)[1]
