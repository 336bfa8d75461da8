# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image.reference import Reference, check_registry
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/library/alpine", "docker.io/library/alpine:latest"),
        ("drone/drone-runner-docker:1", "docker.io/drone/drone-runner-docker:1"),
        ("ghcr.io/a/b/c", "ghcr.io/a/b/c:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("MyHost/app", "MyHost/app:latest"),
        ("0" * 64 + ":1", f"docker.io/library/{'0' * 64}:1"),  # an image ID has no tag
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}"),
        (f"r.example:1/a__b/c-d.e:V1@{DIGEST}", f"r.example:1/a__b/c-d.e:V1@{DIGEST}"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(typed, full):
    assert str(Reference.parse(typed)) == full
    assert str(Reference.parse(full)) == full


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("", "without spaces"),
        (" alpine", "without spaces"),
        ("al pine", "lower case"),
        ("https://ghcr.io/a/b", "leave out https://"),
        ("Alpine", "lower case"),
        ("ghcr.io/Owner/name", "lower case"),
        ("alpine:", "'' is not a valid tag"),
        ("alpine:-1", "'-1' is not a valid tag"),
        ("a/b:c/d", "'c/d' is not a valid tag"),
        ("alpine:" + "x" * 129, "at most 128"),
        ("alpine@sha256:abc", "64 hexadecimal"),
        ("alpine@md5:" + "0" * 32, "64 hexadecimal"),
        ("alpine@", "64 hexadecimal"),
        ("ghcr.io/", "lower case"),
        ("/alpine", "lower case"),
        ("a//b", "lower case"),
        ("a..b/c", "HOST:PORT"),
        ("host:99999/a", "HOST:PORT"),
        ("host:x/a", "HOST:PORT"),
        ("a" * 256, "255"),
        ("0123456789abcdef" * 4, "image ID"),
        ("alpine\n", "without spaces"),
        ("alpine:1\r\nX-Evil: 1", "is not a valid tag"),
        ("../../etc/passwd", "HOST:PORT"),
        ("a/../b", "lower case"),
    ],
)
def test_what_is_no_reference_is_refused_with_what_is_wrong_in_it(typed, hint):
    with pytest.raises(Problem, match="is not an image reference") as caught:
        Reference.parse(typed)
    assert hint in str(caught.value)


@pytest.mark.parametrize("typed", ["https://host", "host/path", "ho st", "host:0", ""])
def test_what_is_no_registry_is_refused(typed):
    with pytest.raises(Problem, match="HOST or HOST:PORT"):
        check_registry(typed)
