# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host says what it lacks before anything is changed on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils import _problem
from ansible_collections.multiarch.drone.plugins.module_utils._docker import engine as _engine
from ansible_collections.multiarch.drone.plugins.module_utils._docker import host as _host
from ansible_collections.multiarch.drone.plugins.module_utils._docker import packages as _packages

if TYPE_CHECKING:
    from pathlib import Path

TRIXIE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\nVERSION_CODENAME=trixie\nID=debian\n'
GOOD = _host.Host(
    distribution=_host.distribution(TRIXIE),
    kernel="6.12.38+deb13-amd64",
    architecture="x86_64",
    python="3.13.5",
    uid=0,
    systemd=True,
    binfmt_misc=True,
    missing_capabilities=(),
    disk_path="/var/lib",
    disk_free=50 * 2**30,
    packages={},
    engine_source="",
    engine_foreign="",
    unit=_engine.Unit(),
    engine=None,
)
BOOKWORM = {"id": "debian", "version": "12", "codename": "bookworm", "name": "Debian GNU/Linux 12 (bookworm)"}
DPKG = """Package: docker.io
Status: install ok installed
Version: 26.1.5+dfsg1-9+b1

Package: docker-cli
Status: deinstall ok config-files
Version: 26.1.5

Package: docker-buildx-fake
Status: install ok installed
Version: 1

Package: libc6
Status: deinstall ok config-files
Architecture: amd64
Version: 2.40

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.41
"""


def problems(host: _host.Host, source: str = "distribution") -> dict[str, str]:
    return _host.problems(host, min_free_gib=5, engine_source=source)


def engine(version: str) -> _engine.Engine:
    return _engine.Engine(version, 0, 0, 0, "/var/lib/docker", False, {})


def test_a_good_host_lacks_nothing() -> None:
    assert problems(GOOD) == {}


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        ({"distribution": {**BOOKWORM, "version": "11", "name": "Debian 11"}}, "distribution", "Debian 11 is not a release that the roles know"),
        ({"uid": 1000}, "rights", "user id 1000, not as root; connect as root or set become"),
        ({"systemd": False}, "systemd", "systemd does not run this host"),
        ({"kernel": "4.4.0-210-generic"}, "kernel", "upgrade the kernel to 4.8"),
        ({"kernel": "weird"}, "kernel", "kernel weird has no flag F"),
        ({"binfmt_misc": False}, "kernel", "has no binfmt_misc"),
        ({"disk_free": 2**30}, "disk", "1.0 GiB are free at /var/lib, less than 5; free some space"),
    ],
)  # fmt: skip
def test_each_lack_is_named_with_what_to_do(change: dict[str, object], check: str, said: str) -> None:
    found = problems(replace(GOOD, **change))  # type: ignore[arg-type]
    assert list(found) == [check]
    assert said in found[check]


@pytest.mark.parametrize(
    ("version", "distribution", "source", "impossible"),
    [
        ("20.10.24+dfsg1", {}, "distribution", True),
        ("26.1.5+dfsg1", {}, "distribution", False),
        ("", BOOKWORM, "distribution", True),
        ("", BOOKWORM, "docker", False),
        ("", {}, "distribution", False),
    ],
)
def test_privileged_containers_need_the_capability_or_an_engine_that_does_without(
    version: str, distribution: dict[str, str], source: str, impossible: bool
) -> None:
    host = replace(
        GOOD,
        missing_capabilities=("CAP_SYS_RESOURCE",),
        distribution=distribution or GOOD.distribution,
        engine=engine(version) if version else None,
    )
    assert ("privileged" in problems(host, source)) is impossible
    assert "privileged" not in problems(replace(host, missing_capabilities=()), source)


@pytest.mark.parametrize("check", ["buildx", "containerd_store"])
def test_what_the_distribution_does_not_bring_comes_with_docker_s_own_packages(check):
    bookworm = replace(GOOD, distribution=BOOKWORM)
    assert "take Docker's own packages" in problems(bookworm)[check]
    assert check not in problems(bookworm, "docker")
    assert check not in problems(GOOD)


def test_missing_capabilities_are_read_from_the_bounding_set_of_process_1() -> None:
    assert _host.missing_capabilities("CapInh:\t0\nCapBnd:\t000001fffeffffff\nCapAmb:\t0\n", "40\n") == (
        "CAP_SYS_RESOURCE",
    )
    assert _host.missing_capabilities("CapBnd:\t000001ffffffffff\n", "40") == ()
    assert _host.missing_capabilities("CapBnd:\t000001ffffffffff\n", "41") == ("CAP_41",)
    assert _host.missing_capabilities("", "") == ()


def test_only_installed_packages_have_a_version() -> None:
    assert _packages.installed(DPKG, ["docker.io", "docker-cli", "docker-buildx", "libc6"]) == {
        "docker.io": "26.1.5+dfsg1-9+b1",
        "docker-cli": "",
        "docker-buildx": "",
        "libc6": "2.41",
    }
    assert _packages.installed("", ["docker.io"]) == {"docker.io": ""}


def dpkg(*names: str, provides: str = "") -> str:
    return "\n".join(f"Package: {name}\nStatus: install ok installed\n{provides}Version: 1:10.1\n" for name in names)


def test_a_name_that_an_installed_package_provides_counts_as_installed() -> None:
    """Debian 14 and Ubuntu 25.10 have qemu-user-static as a virtual name: apt would be asked each time."""
    status = dpkg("libc6") + "\n" + dpkg("qemu-user", provides="Provides: qemu-x, qemu-user-static (= 1:10.1)\n")
    assert _packages.installed(status, ["qemu-user-static"]) == {"qemu-user-static": "1:10.1"}
    assert _packages.installed(status, ["qemu-user-stati", "user-static"]) == {"qemu-user-stati": "", "user-static": ""}
    gone = status.replace("install ok installed", "deinstall ok config-files")
    assert _packages.installed(gone, ["qemu-user-static"]) == {"qemu-user-static": ""}


@pytest.mark.parametrize(
    ("names", "wanted", "source", "refused"),
    [
        ([], "auto", "distribution", ""),
        (["docker.io"], "auto", "distribution", ""),
        (["docker-ce"], "auto", "docker", ""),
        (["moby-engine", "moby-cli"], "auto", "moby", ""),
        (["docker-ce"], "docker", "docker", ""),
        (["docker-ce"], "distribution", "distribution", "Docker's own docker-ce is installed"),
        (["docker.io"], "docker", "docker", "the distribution's Docker is installed"),
        (["podman-docker"], "auto", "distribution", "Podman under the name of docker"),
    ],
)
def test_the_engine_that_is_installed_is_taken_or_refused(
    names: list[str], wanted: str, source: str, refused: str
) -> None:
    status = dpkg(*names)
    host = replace(GOOD, engine_source=_packages.source(status), engine_foreign=_packages.foreign(status, snap=False))
    assert _host.as_result(host, wanted)["engine_packages"]["source"] == source
    said = problems(host, wanted).get("engine", "")
    assert refused in said
    assert bool(refused) == bool(said)


def test_a_snap_in_the_engine_s_place_is_refused() -> None:
    host = replace(GOOD, engine_foreign=_packages.foreign("", snap=True))
    assert "Docker as a snap" in problems(host)["engine"]


def test_docker_ce_on_debian_12_has_what_the_distribution_s_engine_lacks() -> None:
    host = replace(GOOD, distribution=BOOKWORM, engine_source="docker")
    assert problems(host, "auto") == {}


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ('PRETTY_NAME="Debian GNU/Linux forky/sid"\nVERSION_CODENAME=forky\nID=debian\n', ("debian", "14")),
        ('ID=ubuntu\nVERSION_ID="25.10"\nVERSION_CODENAME=questing\n', ("ubuntu", "25.10")),
        ('ID=ubuntu\nVERSION_ID="22.04"\nVERSION_CODENAME=jammy\n', ("ubuntu", "22.04")),
    ],
)
def test_a_release_is_known_by_its_version_or_its_codename(text: str, release: tuple[str, str]) -> None:
    host = replace(GOOD, distribution=_host.distribution(text))
    assert host.release == release
    assert "distribution" not in problems(host)


def test_another_distribution_is_refused_with_its_name() -> None:
    host = replace(GOOD, distribution=_host.distribution('PRETTY_NAME="Fedora Linux 43"\nID=fedora\nVERSION_ID=43\n'))
    assert "Fedora Linux 43" in problems(host)["distribution"]
    assert _host.as_result(host)["engine_packages"]["engine"] == []


def test_os_release_is_read_with_and_without_quotes() -> None:
    assert _host.distribution(TRIXIE) == {
        "id": "debian",
        "version": "13",
        "codename": "trixie",
        "name": "Debian GNU/Linux 13 (trixie)",
        "like": "",
    }
    assert _host.distribution("ID='ubuntu'\nVERSION_ID='24.04'\n")["version"] == "24.04"
    assert _host.distribution("")["name"] == "an unknown distribution"


def test_a_disk_directory_that_does_not_exist_yet_counts_by_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text(TRIXIE)
    monkeypatch.setattr(_engine, "unit", _engine.Unit)
    host = _host.read(root=str(tmp_path), disk_path="/var/lib/docker")
    assert host.disk_path == str(tmp_path / "var")
    assert host.disk_free > 0
    assert host.release == ("debian", "13")
    assert not host.systemd
    assert not host.binfmt_misc


@pytest.mark.parametrize(
    ("id", "like", "words"),
    [
        ("fedora", "", "Some OS is not Debian or Ubuntu, and the roles install packages with apt"),
        ("rocky", "rhel centos fedora", "is not Debian or Ubuntu"),
        ("linuxmint", "ubuntu debian", "is not a release that the roles know the packages of"),
        ("debian", "", "is not a release that the roles know the packages of"),
    ],
)
def test_a_distribution_is_told_apart_from_a_release(id: str, like: str, words: str) -> None:
    other = {"id": id, "version": "41", "codename": "", "name": "Some OS", "like": like}
    said = problems(replace(GOOD, distribution=other))["distribution"]
    assert words in said
    assert "use one of Debian 12, Debian 13" in said


def holding(**changes: object) -> _engine.Engine:
    found = {
        "version": "26.1.5",
        "containers": 1,
        "running": 0,
        "images": 7,
        "data_root": "/",
        "containerd_store": False,
        "info": {},
    }
    return _engine.Engine(**{**found, **changes})  # type: ignore[arg-type]


def test_an_engine_that_holds_images_without_the_store_names_them_and_both_ways_out() -> None:
    images = tuple(f"app:{number}" for number in range(7))
    said = problems(replace(GOOD, engine=holding(), images=images))["image_store"]
    assert "7 images (app:0, app:1, app:2, app:3, app:4 and 2 more) and 1 containers" in said
    assert "docker_engine_containerd_store=true" in said
    assert "driver docker-container" in said


@pytest.mark.parametrize("changes", [{"containerd_store": True}, {"images": 0, "containers": 0}])
def test_an_engine_with_the_store_or_with_nothing_to_hide_lacks_nothing(changes: dict[str, object]) -> None:
    assert "image_store" not in problems(replace(GOOD, engine=holding(**changes)))


def test_an_engine_too_old_for_the_store_is_not_told_to_turn_it_on() -> None:
    said = problems(replace(GOOD, engine=holding(version="20.10.24+dfsg1")))["image_store"]
    assert "use Docker 24.0 or later" in said
    assert "=true" not in said


@pytest.mark.parametrize(
    "name",
    [
        "-oDPkg::Pre-Invoke::=id",
        "--purge",
        "docker.io-",
        "/tmp/evil.deb",
        "a b",
        "",
        "x",
        "Docker",
        "https://joe:pw@h/x",
    ],
)
def test_what_is_no_name_of_a_package_is_refused(name):
    with pytest.raises(_problem.Problem, match="is not a valid name of a package") as caught:
        _packages.check_names(["docker.io", name])
    assert "pw@" not in str(caught.value)


def test_names_of_packages_are_those_of_debian_and_ubuntu():
    _packages.check_names(["docker.io", "g++", "libstdc++6", "qemu-user-static", "libc6:arm64", "0ad", "docker-ce-cli"])
