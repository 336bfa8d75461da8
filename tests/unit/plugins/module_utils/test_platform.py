# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils import _platform as platform
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("linux/arm64", "linux/arm64"),
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("LINUX/ARM64", "linux/arm64"),
        ("arm", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("x86_64", "linux/amd64"),
        ("386", "linux/386"),
        ("i686", "linux/386"),
        ("ppc64el", "linux/ppc64le"),
        ("loongarch64", "linux/loong64"),
        (" riscv64 ", "linux/riscv64"),
    ],
)
def test_what_people_type_becomes_the_oci_name(typed, named):
    assert str(platform.Platform.parse(typed)) == named


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("linux/arm9", "'linux/arm9' is not a platform; did you mean linux/arm64?"),
        ("aarch65", "'aarch65' is not a platform; did you mean aarch64?"),
        ("linux/arm/v9", "'linux/arm/v9' is not a platform"),
        ("windows/amd64", "windows/amd64 is a platform of windows, and only Linux's"),
        ("linux/", "'linux/' is not a platform"),
        ("a/b/c/d", "'a/b/c/d' is not a platform"),
        ("", "'' is not a platform"),
        ("vax", "known are: linux/amd64, linux/arm64"),
    ],
)
def test_what_is_no_platform_is_refused_with_the_near_match(typed, message):
    with pytest.raises(Problem) as caught:
        platform.Platform.parse(typed)
    assert message in str(caught.value)


def test_the_articles_list_in_one_string_names_each_platform_once():
    assert [str(p) for p in platform.parse_all(["arm64,arm,aarch64"])] == ["linux/arm64", "linux/arm/v7"]


def test_an_empty_list_is_refused():
    with pytest.raises(Problem, match="list of platforms is empty"):
        platform.parse_all([])


def test_every_architecture_of_the_table_is_reached_by_its_uname():
    for name, architecture in platform.ARCHITECTURES.items():
        found = {platform.by_machine(uname).architecture for uname in architecture.uname}
        assert found == {name} or name == "mips64"  # both mips64 say `mips64`
