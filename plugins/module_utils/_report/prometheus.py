# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report as metrics for node_exporter's textfile collector.

Names follow Prometheus' conventions: a prefix, base units, `_timestamp_seconds` and `_bytes` as suffixes.
"""

from __future__ import annotations

import calendar
import time
from typing import Any, Iterable, Iterator, Mapping

PREFIX = "multiarch_drone"


def render(document: Mapping[str, Any]) -> str:
    """Return the document in the text format of Prometheus."""
    return "".join(
        line + "\n" for name, help_text, samples in _metrics(document) for line in _lines(name, help_text, samples)
    )


def _lines(name: str, help_text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {PREFIX}_{name} {help_text}"
    yield f"# TYPE {PREFIX}_{name} gauge"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        number = str(int(value)) if value == int(value) else repr(value)
        yield f"{PREFIX}_{name}{'{' + inside + '}' if inside else ''} {number}"


def _metrics(document: Mapping[str, Any]) -> Iterator[tuple[str, str, list[tuple[dict[str, str], float]]]]:
    hosts = document["hosts"]
    made = calendar.timegm(time.strptime(document["generated"], "%Y-%m-%dT%H:%M:%SZ"))
    counts: dict[tuple[str, str], int] = {}
    for finding in document["findings"]:
        key = (finding["severity"], finding["layer"])
        counts[key] = counts.get(key, 0) + 1
    yield "report_timestamp_seconds", "When the report was made.", [({}, made)]
    yield "report_duration_seconds", "How long the report took.", [({}, document["duration_seconds"] or 0)]
    yield (
        "findings",
        "Things that are not as declared, by severity and layer.",
        [({"severity": severity, "layer": layer}, number) for (severity, layer), number in sorted(counts.items())],
    )
    yield "host_up", "Whether a host was reached.", [({"host": host["name"]}, host["reachable"]) for host in hosts]
    yield (
        "platform_ready",
        "Whether a host executes a platform now and after its next start.",
        [
            (
                {"host": host["name"], "platform": row["platform"], "by": "cpu" if row["native"] else "qemu"},
                (row["native"] or row["verified"] is True) and row["survives_restart"] and not row["problems"],
            )
            for host in hosts
            for row in host["platforms"]
        ],
    )
    yield (
        "drift_steps",
        "Steps that a run would take on a host.",
        [({"host": host["name"]}, len(host["drift"])) for host in hosts if host["reachable"]],
    )
    yield (
        "builder_cache_bytes",
        "Disk space of a builder's cache.",
        [
            ({"host": host["name"], "user": row["user"], "builder": row["name"]}, row["cache_bytes"])
            for host in hosts
            for row in host["builders"]
            if row["cache_bytes"] is not None
        ],
    )
    runners = [(host["name"], host["runner"]) for host in hosts if host["runner"]]
    yield (
        "runner_healthy",
        "Whether a runner takes builds.",
        [({"host": name}, row["healthy"]) for name, row in runners],
    )
    yield "runner_builds", "Builds on a runner.", [({"host": name}, len(row["builds"])) for name, row in runners]
    yield (
        "repositories_trusted",
        "Repositories that Drone trusts.",
        [({}, sum(row["trusted"] for row in document["drone"]["repos"]))],
    )
    yield (
        "certificate_days",
        "Days until a certificate of a remote daemon ends.",
        [
            ({"daemon": str(row["daemon"]), "kind": str(row["kind"]), "name": str(row["name"])}, row["days_left"])
            for row in document["certificates"]
            if row["days_left"] is not None
        ],
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
