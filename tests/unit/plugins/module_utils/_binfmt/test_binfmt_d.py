# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt import binfmt_d
from ansible_collections.multiarch.drone.plugins.module_utils._binfmt.kernel import Handler
from ansible_collections.multiarch.drone.plugins.module_utils._platform import ARCHITECTURES

ARM64, ARM = ARCHITECTURES["arm64"], ARCHITECTURES["arm"]
HANDLER = Handler.for_architecture(ARM64, "/usr/bin/qemu-aarch64-static", "CF")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The directories of binfmt.d in a place of the test's own: tree("lib/a.conf", TEXT) writes a file."""
    monkeypatch.setattr(binfmt_d, "OWN", str(tmp_path / "etc"))
    monkeypatch.setattr(binfmt_d, "LOWER", (str(tmp_path / "run"), str(tmp_path / "lib")))

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null") if text == binfmt_d.EMPTY else path.write_text(text)
        return path

    return write


def rule(architecture=ARM64, name=None, interpreter="/usr/bin/qemu", flags="F"):
    handler = Handler.for_architecture(architecture, interpreter, flags)
    return handler._replace(name=name or handler.name).line() + "\n"


def answering():
    return next((e.handler for e in reversed(binfmt_d.at_boot(binfmt_d.read())) if e.handler.runs(ARM64)), None)


def test_a_file_of_the_same_name_in_etc_wins_over_the_packages(tree):
    tree("lib/qemu-aarch64.conf", rule(flags="POF"))
    tree("etc/qemu-aarch64.conf", rule(flags="POCF"))
    assert answering().flags == "POCF"


def test_a_file_of_an_earlier_name_loses_to_the_packages(tree):
    tree("lib/qemu-aarch64.conf", rule(flags="POF"))
    tree("etc/multiarch.conf", rule(flags="POCF"))
    assert answering().flags == "POF"


def test_a_link_to_dev_null_keeps_a_handler_away(tree):
    tree("lib/qemu-aarch64.conf", rule())
    tree("etc/qemu-aarch64.conf", binfmt_d.EMPTY)
    assert answering() is None


def written(handler=HANDLER):
    """Return what with_rule makes of /etc/binfmt.d/qemu-aarch64.conf; None where it is right already."""
    return {Path(path).name: text for path, text in binfmt_d.with_rule(binfmt_d.read(), handler, ARM64).items()}.get(
        "qemu-aarch64.conf"
    )


def test_the_same_file_in_other_words_says_the_same(tree):
    tree("etc/qemu-aarch64.conf", "; note\n\n \t" + rule(interpreter=HANDLER.interpreter, flags="FOC"))
    assert written() is None
    assert written(HANDLER._replace(flags="POCF")).startswith("; note\n\n:qemu-aarch64:")
    assert HANDLER._replace(interpreter="/x").line() in written(HANDLER._replace(interpreter="/x"))


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_an_administrators_rule_in_our_file_is_kept_byte_for_byte(tree, end):
    theirs = "# mine\n  :jar:E::jar::/usr/bin/jexec:" + end
    tree("etc/qemu-aarch64.conf", rule(flags="F") + theirs)
    assert written() == theirs + ("" if end else "\n") + HANDLER.line() + "\n"
    tree("etc/qemu-aarch64.conf", written())
    assert written() is None
    changes = binfmt_d.without(binfmt_d.read(), lambda handler: handler.runs(ARM64))
    assert list(changes.values()) == [theirs + ("" if end else "\n")]


def test_other_rules_of_the_packages_file_that_ours_hides_are_taken_over(tree):
    tree("lib/qemu-aarch64.conf", rule(flags="F") + rule(ARM))
    assert written() == rule(ARM) + HANDLER.line() + "\n"


def test_a_rule_of_ours_behind_which_another_takes_the_programs_is_put_last(tree):
    tree("etc/qemu-aarch64.conf", HANDLER.line() + "\n" + rule(name="theirs"))
    assert written() == rule(name="theirs") + HANDLER.line() + "\n"


# As systemd-binfmt 252 was seen to read them: where a line ends, and what is one.
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("  :a:E::x::/bin/true:  \r\n", ["a"]),
        ("\t# :a:E::x::/bin/true:\n ; :b:E::x::/bin/true:\n", []),
        (":a:E::x::/bin/true:\r:b:E::y::/bin/true:\0:c:E::z::/bin/true:", ["a", "b", "c"]),
        (":a:M::v\x0bv::/bin/true:\n", ["a"]),
        (":a:M::v\x85\u2028v::/bin/true:\n", ["a"]),
        (",a,E,,x,,/bin/true,\n", ["a"]),
    ],
)
def test_rules_are_read_as_systemd_reads_them(tree, text, names):
    tree("etc/a.conf", "")
    file = binfmt_d.File("/etc/binfmt.d", "a.conf", text)
    assert [found.name for found in file.rules] == names
    assert "".join(binfmt_d._lines(text)) == text


def test_what_has_to_go_is_removed_or_hidden_and_nothing_else(tree):
    own = tree("etc/qemu-aarch64.conf", rule())
    mine = tree("etc/mine.conf", rule(name="qemu-mine"))
    tree("lib/qemu-aarch64.conf", rule())
    below = tree("lib/qemu-other.conf", rule(name="qemu-other"))
    tree("lib/qemu-arm.conf", rule(ARM))
    tree("lib/python.conf", ":python:M::pyc::/usr/bin/python3:\n")
    mixed = tree("lib/mixed.conf", "#1\n" + rule() + ":jar:E::jar::/usr/bin/jexec:\n")
    indented = tree("etc/indented.conf", "# kept\n\t" + rule(name="qemu-x") + rule(ARM))
    hidden = str(own.parent / below.name)
    changes = binfmt_d.without(binfmt_d.read(), lambda handler: handler.runs(ARM64))
    assert changes == {str(own): binfmt_d.EMPTY, str(mine): None, hidden: binfmt_d.EMPTY} | {
        str(own.parent / mixed.name): "#1\n:jar:E::jar::/usr/bin/jexec:\n",
        str(indented): "# kept\n" + rule(ARM),
    }
    for path, text in changes.items():
        binfmt_d.step(path, text).apply()
    assert binfmt_d.without(binfmt_d.read(), lambda handler: handler.runs(ARM64)) == {}


@pytest.mark.parametrize("before", [None, "old\n", binfmt_d.EMPTY])
@pytest.mark.parametrize("after", [None, "new\n", binfmt_d.EMPTY])
def test_a_step_puts_a_file_in_place_and_takes_it_back(tree, tmp_path, before, after):
    path = tmp_path / "etc/a.conf"
    path.parent.mkdir()
    if before is not None:
        tree("etc/a.conf", before)

    def content():
        return binfmt_d.EMPTY if path.is_symlink() else path.read_text() if path.exists() else None

    step = binfmt_d.step(str(path), after)
    step.apply()
    assert content() == after
    step.undo()
    assert content() == before
    assert list(os.listdir(tmp_path / "etc")) == (["a.conf"] if before is not None else [])


def test_a_link_in_a_files_place_is_replaced_and_never_followed(tree, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/a.conf").symlink_to(victim)
    binfmt_d.step(str(tmp_path / "etc/a.conf"), "new\n").apply()
    assert victim.read_text() == "precious"
    assert not (tmp_path / "etc/a.conf").is_symlink()


def test_files_that_cannot_be_read_and_other_names_are_passed_over(tree, tmp_path):
    tree("etc/a.conf~", rule())
    (tmp_path / "etc/b.conf").symlink_to(Path("/nowhere"))
    (tmp_path / "etc/c.conf").mkdir()
    assert binfmt_d.at_boot(binfmt_d.read()) == []
