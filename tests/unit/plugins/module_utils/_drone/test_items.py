# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._drone.client import Unreachable
from ansible_collections.multiarch.drone.plugins.module_utils._drone.items import Item, Place, Wish, read


def test_after_an_error_the_places_that_wait_are_not_asked():
    asked, failed = [], threading.Event()

    def get(path):
        asked.append(path)
        if len(asked) == 1:
            failed.set()
            raise Unreachable("the server is gone")
        failed.wait(10)
        threading.Event().wait(0.2)  # longer than it takes to cancel what waits
        return []

    wishes = {Item(Place(f"octocat/app{number}"), "a"): Wish({}) for number in range(50)}
    with pytest.raises(Unreachable):
        read(SimpleNamespace(get=get, connections=2), "secrets", wishes)
    assert len(asked) < 10
