# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report's page in a real browser: search, order, folding, both colour schemes, a phone, print, and axe-core as the judge."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._report import fleet, page
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

TEMPLATE = Path(__file__).parents[2] / "playbooks/templates/report.html.j2"
PLATFORMS = ["linux/amd64", "linux/arm64", "linux/s390x"]


def host(number: int) -> dict:
    broken = ["the kernel runs an old QEMU 7.2.0"] if number == 3 else []
    return {
        "unreachable": number == 5,
        "host": {
            "distribution": {"name": "Debian GNU/Linux 13 (trixie)"},
            "kernel": "6.12.38+deb13-amd64",
            "architecture": "x86_64",
            "docker": {"running": True, "enabled": True, "version": "26.1.5", "containerd_store": True},
        },
        "config": {"steps": ["reload the engine"] if number == 4 else []},
        "qemu": {
            "platforms": [
                {
                    "platform": platform,
                    "native": platform == "linux/amd64",
                    "name": "qemu-x",
                    "kernel_version": "10.0.13",
                    "verified": True,
                    "persistent": True,
                    "problems": broken,
                }
                for platform in PLATFORMS
            ]
        },
        "runner": {"runner": {"name": f"runner-{number}", "healthy": True, "reaches_server": True, "builds": []}},
    }


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    repos = [{"slug": f"octocat/app{n}", "active": True, "trusted": n % 3 == 0} for n in range(60)]
    document = fleet.report(
        {
            "version": "1.0.0",
            "generated": "2026-11-28T04:00:00Z",
            "duration_seconds": 10,
            "hosts": {f"runner-{number:03}": host(number) for number in range(30)},
            "drone": {"server": "https://drone.example.com", "trusted": ["octocat/*"], "repos": repos},
            "pipelines": [{"pipeline": {"repo": "registry.example.com/octocat/app", "platforms": PLATFORMS}}],
            "pipeline_results": [
                {
                    "item": 0,
                    "repos": [{"name": f"https://git/octocat/app{n}.git", "changed": n == 7} for n in range(60)],
                }
            ],
            "images": [{"reference": "registry.example.com/octocat/app", "digest": "sha256:00", "platforms": []}],
            "certificates": [{"daemon": "main", "kind": "server", "name": "b1", "ends": "2026-12-01", "days_left": 3}],
        }
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page.render(TEMPLATE.read_text(), document, [{"title": "Next", "text": "ansible-playbook"}]))
    return path


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def shown(browser, html, request):
    options = getattr(request, "param", {})
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    tab = context.new_page()
    said = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(html.as_uri())
    yield tab
    assert said == []
    context.close()


VIEWS = {
    "desktop": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
    "dark phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}


@pytest.mark.parametrize("shown", VIEWS.values(), ids=VIEWS, indirect=True)
def test_axe_finds_no_violation(shown):
    found = Axe().run(shown)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("shown", VIEWS.values(), ids=VIEWS, indirect=True)
def test_the_page_is_never_wider_than_the_window(shown):
    assert shown.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_colours_follow_the_scheme(browser, html):
    grounds = set()
    for scheme in ("light", "dark"):
        tab = browser.new_page(color_scheme=scheme)
        tab.goto(html.as_uri())
        grounds.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        tab.close()
    assert len(grounds) == 2


def visible_rows(shown) -> int:
    return shown.evaluate("[...document.querySelectorAll('tbody tr')].filter(row => !row.hidden).length")


def test_a_search_shows_the_rows_that_have_every_word(shown):
    everything = visible_rows(shown)
    shown.fill("#search", "runner-022")
    assert visible_rows(shown) == 1
    shown.fill("#search", "OCTOCAT app5 git")
    assert visible_rows(shown) == 11  # 5, and 50 to 59
    assert "rows" in shown.inner_text("#matches")
    shown.fill("#search", "")
    assert visible_rows(shown) == everything


def test_only_what_needs_attention_is_shown_on_request(shown):
    shown.check("#attention")
    hosts = shown.evaluate(
        "[...document.querySelectorAll('#hosts')][0].closest('details').querySelectorAll('tbody tr:not([hidden])').length"
    )
    assert hosts == 3  # one broken, one that would change, one that cannot be reached


def test_a_click_or_a_key_on_a_heading_sorts_and_again_turns_the_order(shown):
    table = shown.locator("table", has=shown.get_by_role("columnheader", name="linux/s390x"))
    first = table.locator("tbody tr").first
    heading = table.get_by_role("button", name="Host")
    heading.click()
    assert "runner-000" in first.inner_text()
    heading.press("Enter")
    assert "runner-029" in first.inner_text()
    assert table.locator("th[aria-sort=descending]").count() == 1


def test_what_needs_a_person_comes_first(shown):
    severities = shown.locator("table").first.locator("tbody tr td:first-child").all_inner_texts()
    order = [text.split()[0] for text in severities]
    assert order == sorted(order, key=["broken", "drift", "note"].index)


def test_a_host_is_unfolded_by_keyboard(shown):
    summary = shown.locator("summary", has_text="runner-004")
    summary.press("Enter")
    assert shown.get_by_text("a run would: reload the engine", exact=True).is_visible()


def test_print_shows_everything_and_no_tools(shown):
    shown.emulate_media(media="print")
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not shown.locator(".tools").is_visible()
    assert shown.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
