# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image import registry
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import image_platforms_info


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "the list of images is empty"),
        ({"images": ["Alpine"]}, "'Alpine' is not an image reference"),
        ({"require": ["linux/arm9"]}, r"did you mean linux/arm64\?"),
        ({"require": ["windows/amd64"]}, "windows/amd64 is a platform of windows"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"ca_path": "/nowhere"}, "/nowhere, which ca_path names, cannot be read"),
        ({"insecure_registries": ["http://x"]}, "write HOST or HOST:PORT"),
    ],
)
def test_bad_input_is_refused_before_a_registry_is_asked(monkeypatch, arguments, message):
    monkeypatch.setattr(registry, "read_all", lambda *_unused: pytest.fail("a registry was asked"))
    defaults = {
        "images": ["a"],
        "require": [],
        "timeout": 30,
        "insecure_registries": [],
        "ca_path": None,
        "sizes": False,
    }
    with pytest.raises(Problem, match=message):
        image_platforms_info.read(SimpleNamespace(params={**defaults, **arguments}))
