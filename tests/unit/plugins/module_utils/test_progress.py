# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a module says of its progress: one line in a file of its own user, and never what it hides."""

from __future__ import annotations

import os
import stat
import time

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils import _change, _progress
from ansible_collections.multiarch.drone.plugins.module_utils._image.plain import Vertices
from ansible_collections.multiarch.drone.plugins.module_utils._runner import prune, steps

NAME = "0123456789abcdef"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(_progress, "RUN", str(tmp_path))
    monkeypatch.setattr(_progress, "OTHERS", str(tmp_path))
    _progress.begin(NAME, lambda text: text.replace("secret", "***"))
    yield tmp_path / f"multiarch.drone.{os.getpid()}.{NAME}"
    _progress.end()


def test_nothing_is_written_before_there_is_something_to_say_and_nothing_is_left(file):
    assert not file.exists()
    _progress.tell("pull a very long name")
    _progress.tell("secret\n\x1b[31mdone")
    assert file.read_text() == "*** [31mdone".replace(" ", "  ", 1) + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    _progress.end()
    assert not file.exists()


def test_a_link_in_the_place_of_the_file_is_not_followed(file, tmp_path):
    (tmp_path / "of-somebody-else").write_text("as it was")
    file.symlink_to(tmp_path / "of-somebody-else")
    _progress.tell("pull")
    assert (tmp_path / "of-somebody-else").read_text() == "as it was"
    assert not _progress.wanted()


@pytest.mark.parametrize("name", [None, "", "../../etc/passwd", "0123", 7, "0123456789abcdeF"])
def test_a_name_that_is_none_is_no_wish_for_progress(name):
    _progress.begin(name, str)
    assert not _progress.wanted()
    _progress.tell("pull")


def test_each_step_of_a_change_is_told_and_what_is_taken_back(file):
    said = []

    def fail():
        said.append(file.read_text())
        raise OSError("full")

    def undo():
        said.append(file.read_text())

    steps = [_change.Step("pull it", lambda: said.append(file.read_text()), undo), _change.Step("start it", fail)]
    _change.take(_change.Plan({"a": 1}, {"a": 2}, steps))
    assert said == ["pull it\n", "start it\n", "take back: pull it\n"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("#7 [linux/s390x 4/7] RUN make", "linux/s390x 4/7 RUN make"),
        ("#7 [linux/arm64 builder 2/3] COPY . .", "linux/arm64 builder 2/3 COPY . ."),
        ("#9 exporting to image", "exporting to image"),
        ("#7 [2/2] ADD https://user:pass-word@example.org/a /a", "2/2 ADD https://user:…@example.org/a /a"),
        ("#7 1.234 what a step prints", None),
        ("#7 [internal] load build context", None),
        ("what else there is", None),
    ],
)
def test_a_build_is_at_the_step_that_it_began_last_and_its_output_is_never_told(file, line, said):
    Vertices().hear(line + "\n")
    assert (file.read_text() if file.exists() else None) == (said and said + "\n")


def test_a_build_whose_newest_step_has_ended_is_at_the_one_before(file):
    vertices = Vertices()
    for line in ("#5 [linux/arm64 2/3] RUN a", "#6 [linux/s390x 2/3] RUN b", "#6 DONE 3.2s"):
        vertices.hear(line)
    assert file.read_text() == "linux/arm64 2/3 RUN a\n"
    vertices.hear("#5 CACHED")
    assert file.read_text() == "linux/arm64 2/3 RUN a\n"


def test_a_runner_that_drains_names_its_builds_the_oldest_first(monkeypatch):
    now = time.time()
    made = [("octocat/app #12", 185), ("octocat/app #12", 20), ("octocat/b #1", 30), ("", 900)]
    live = tuple(prune.Thing("container", "id", "name", now - age, build=build) for build, age in made)
    monkeypatch.setattr(prune, "find", lambda *_args, **_options: prune.Found((), live))
    assert steps._left() == "2 builds left, octocat/app #12 for 3 min, octocat/b #1 for 30 s"
    monkeypatch.setattr(prune, "find", lambda *_args, **_options: prune.Found((), ()))
    assert steps._left() == "no build left"

    def lost(*_args, **_options):
        raise OSError("no socket")

    monkeypatch.setattr(prune, "find", lost)
    assert steps._left() == "its builds cannot be read"


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s"), (59.9, "59 s"), (185, "3 min"), (7500, "2 h 5 min")])
def test_a_duration_is_told_as_people_say_it(seconds, said):
    assert _progress.duration(seconds) == said
