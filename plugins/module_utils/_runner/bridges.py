# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The bridge of the Docker daemon that a build starts: its range may hide what the build has to reach."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Iterable, Mapping

from .._docker import engine
from .._problem import Problem

if TYPE_CHECKING:
    from .wish import Runner

# Where Docker puts the network of each build, unless default-address-pools says otherwise (libnetwork's first pool: a host
# must have fifteen networks before it takes from 192.168.0.0/16).
POOLS = ("172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16", "172.20.0.0/14", "172.24.0.0/14", "172.28.0.0/14")


def check(bips: Iterable[str], runner: Runner, registries: Iterable[str]) -> None:
    """Raise a Problem where a range of builds' own daemons hides what they need; `registries` are more that they do."""
    given, known = pools_and_registries()
    mirror = runner.builds.get("DOCKER_PLUGIN_MIRROR", "")
    names = [*registries, *known, mirror.partition("://")[2], runner.server.partition("://")[2]]
    hosts = [name.partition("/")[0].rpartition(":")[0] or name.partition("/")[0] for name in names if name]
    reached = addresses(dict.fromkeys(hosts))
    for bip in bips:
        hidden(bip, {**networks(), **given}, reached)


def hidden(bip: str, networks: Mapping[str, str], registries: Mapping[str, Iterable[str]]) -> None:
    """Raise a Problem where the bridge range of builds' daemons hides what they have to reach.

    `networks` are ranges by what they are of ("the host's route to eth0"), `registries` the addresses of each by name.
    """
    try:
        own = ipaddress.ip_interface(bip)
        if "/" not in bip or own.network.num_addresses < 4 or own.ip == own.network.network_address:
            raise ValueError
    except ValueError:
        hint = "write the bridge's own address with the length of its network: 10.231.0.1/24"
        raise Problem(f"bip {bip!r} is not a valid address of a bridge", hint) from None
    hint = "choose a range that nothing here uses, such as 10.231.0.1/24"
    for name, addresses in registries.items():
        for address in addresses:
            if ipaddress.ip_address(address) in own.network:
                what = f"bip {bip} hides {name} ({address}): the plugin's daemon would look for it on its own bridge"
                raise Problem(what, hint)
    for what, network in networks.items():
        other = ipaddress.ip_network(network, strict=False)
        if other.version == own.version and other.prefixlen and own.network.overlaps(other):
            raise Problem(f"bip {bip} overlaps {network}, {what}: builds would not reach what is there", hint)


def addresses(hosts: Iterable[str]) -> dict[str, list[str]]:
    """Return the addresses of hosts, as far as this host knows them."""
    found: dict[str, list[str]] = {}
    for host in hosts:
        try:
            rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found[host] = sorted({str(row[4][0]).partition("%")[0] for row in rows})
        except (OSError, UnicodeError):
            found[host] = []
    return found


def networks() -> dict[str, str]:
    """Return the ranges that this host reaches directly, or that Docker has given away, by what they are."""
    found = {}
    try:
        with open("/proc/net/route", encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
    except OSError:
        rows = []
    for row in rows:
        base, mask = (socket.inet_ntoa(bytes.fromhex(row[column])[::-1]) for column in (1, 7))
        if mask != "0.0.0.0":
            found[f"which this host reaches through {row[0]} ({base})"] = f"{base}/{mask}"
    return found


def pools_and_registries() -> tuple[dict[str, str], list[str]]:
    """Return from which ranges Docker gives builds their networks, and which registries it was told of."""
    if not engine.unit().active:
        return {f"from which Docker gives builds their networks ({pool})": pool for pool in POOLS}, []
    info = engine.get("/info")
    given = [row.get("Base", "") for row in info.get("DefaultAddressPools") or ()] or list(POOLS)
    pools = {f"from which Docker gives builds their networks ({pool})": pool for pool in given if pool}
    config = info.get("RegistryConfig") or {}
    names = [*(config.get("IndexConfigs") or {}), *(config.get("Mirrors") or ())]
    return pools, [re.sub(r"^\w+://|/.*$", "", name) for name in names if name != "docker.io"]
