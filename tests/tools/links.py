# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check every link within a built site, fragments included; links to other sites are not followed: `links.py DIRECTORY`."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.update(filter(None, (values.get("id"), values.get("name"))))
        self.links += filter(None, (values.get("href"), values.get("src")))


def main(root: Path) -> int:
    """Print the links that lead nowhere, and return whether there are any."""
    pages = {path.resolve(): Page(path) for path in root.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.exists() or (known and parts.fragment and unquote(parts.fragment) not in known.anchors):
                broken.append(f"{path.relative_to(root.resolve())}: {link}")
    print("\n".join(broken), end="\n" if broken else "")
    print(
        f"{sum(len(page.links) for page in pages.values())} links on {len(pages)} pages, {len(broken)} of them lead nowhere"
    )
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
