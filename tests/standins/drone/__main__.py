# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Serve the stand-in: `python -m tests.standins.drone --port 8080 --version 2.0.4 --fleet 1000 --pace real`."""

from __future__ import annotations

import argparse
import contextlib
import json

from .faults import REAL_PACE
from .server import DroneServer


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tests.standins.drone", description="A stand-in for a Drone server, in memory."
    )
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--version", default="2.28.1", help="whose API it speaks: 2.28.1 or 2.0.4")
    parser.add_argument("--seed", type=int, default=0, help="what ids, tokens and the order of rows come from")
    parser.add_argument(
        "--repo", action="append", metavar="NAMESPACE/NAME", help="instead of octocat/app1 …; repeat it"
    )
    parser.add_argument("--fleet", type=int, default=0, metavar="N", help="add fleet/repo-0001 … fleet/repo-N")
    parser.add_argument("--token", action="append", default=[], metavar="LOGIN=TOKEN", help="instead of one by chance")
    parser.add_argument(
        "--pace", choices=("quick", "real"), default="quick", help="real takes what a real server takes"
    )
    parser.add_argument("--oss", action="store_true", help="answer as an `oss` build: 501 to secrets, cron, templates")
    parser.add_argument("--rpc-secret", default="", help="what runners must show; without it they are all refused")
    options = parser.parse_args()
    server = DroneServer(
        version=options.version,
        seed=options.seed,
        address=options.address,
        port=options.port,
        fleet=options.fleet,
        tokens=dict(pair.split("=", 1) for pair in options.token),
        pace=REAL_PACE if options.pace == "real" else None,
        oss=options.oss,
        rpc_secret=options.rpc_secret,
        **({"repos": options.repo} if options.repo else {}),
    )
    print(json.dumps({"url": server.url, "tokens": server.tokens}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
