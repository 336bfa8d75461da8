# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Repositories of a Drone server: which are meant, what is wished of each, and the plan that gets it there.

One listing tells the state of all; only what differs is changed. The modules check every wish before the first change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Collection, Iterable, Mapping, Sequence

from .._change import Plan, Step
from .._change_each import carry_out_each
from .._problem import Problem
from .client import Drone, Unreachable, repo_route
from .slugs import is_glob, matching

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

VISIBILITIES = ("public", "private", "internal")

# The settings of a repository; `active` goes over routes of its own, the rest in one PATCH.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "active": {"type": "bool"},
    "trusted": {"type": "bool"},
    "protected": {"type": "bool"},
    "visibility": {"type": "str", "choices": list(VISIBILITIES)},
    "timeout": {"type": "int"},
    "throttle": {"type": "int"},
    "config_path": {"type": "str"},
    "ignore_forks": {"type": "bool"},
    "ignore_pull_requests": {"type": "bool"},
    "auto_cancel_pull_requests": {"type": "bool"},
    "auto_cancel_pushes": {"type": "bool"},
    "auto_cancel_running": {"type": "bool"},
}
# From anybody else Drone takes these with 200 and changes nothing (drone-2.28.json, "trust one's own repository …").
ADMIN_ONLY = ("trusted", "timeout", "throttle")

# Empty until Drone sets its defaults at the first activation: nothing that a wish could repeat.
UNSET = ("timeout", "config_path")

# How many unknown names get a search for what was meant, which takes 50 ms each among 10,000.
SEARCHED = 10


@dataclass(frozen=True)
class Repo:
    """One repository as a listing shows it: its slug and its settings, None where it has none yet."""

    slug: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Repo:
        """Return the repository of a server's row."""
        settings = {name: row.get(name) for name in SETTINGS}
        settings["throttle"] = row.get("throttle") or 0  # left out where it is 0
        settings.update((name, row.get(name) or None) for name in UNSET)
        return cls(row["slug"], settings)


def list_repos(drone: Drone) -> dict[str, Repo]:
    """Return every repository that the token's owner may see, by slug."""
    return {row["slug"]: Repo.of(row) for row in drone.repos()}


# Which repositories are meant


def check_slugs(texts: Iterable[str], *, globs: bool) -> None:
    """Raise one Problem for all texts that are no `namespace/name`."""
    wrong = []
    for text in texts:
        parts = text.split("/")
        if (
            len(parts) != 2
            or not all(parts)
            or {".", ".."} & set(parts)
            or any(c.isspace() or c == "\\" or not c.isprintable() for c in text)
        ):
            hint = f" (did you mean {text}/*?)" if globs and text.strip() and "/" not in text else ""
            wrong.append(f"{text!r}{hint}")
        elif not globs and is_glob(text):
            wrong.append(f"{text!r} (a pattern; drone_repo_info turns it into slugs)")
    if wrong:
        raise Problem(
            f"not a repository's slug: {', '.join(wrong)}",
            "a slug is namespace/name with one slash, such as octocat/hello-world",
        )


def resolve(wanted: Sequence[str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the slugs that are meant, each once, and of `wanted` what the server does not know or what matches nothing."""
    found: list[str] = []
    missing = []
    for text in wanted:
        slugs = sorted(matching(text, known)) if is_glob(text) else [text] if text in known else []
        found.extend(slugs)
        if not slugs:
            missing.append(text)
    return list(dict.fromkeys(found)), list(dict.fromkeys(missing))


def unknown(missing: Sequence[str], known: Collection[str], drone: Drone) -> Problem:
    """Return the Problem that lists all that the server does not know, each with what was meant, perhaps."""
    names = [f"{text}{_meant(text, known, search=number < SEARCHED)}" for number, text in enumerate(missing)]
    me = drone.me()
    seen = "" if me.admin else f" among the {len(known)} that `{me.login}` may see"
    return Problem(
        f"{drone.url} does not know {', '.join(names)}{seen}",
        "missing=synchronize lets Drone ask the source-code host for new ones first, missing=skip goes on without them",
        missing=list(missing),
    )


def _meant(text: str, known: Collection[str], *, search: bool) -> str:
    """Return " (did you mean …?)" for the slug nearest to a text, or nothing."""
    if is_glob(text):
        return " (a pattern that matches nothing)"
    lower = text.lower()
    meant = [slug for slug in known if slug.lower() == lower]
    if not meant and search:
        import difflib

        by_lower_case = {slug.lower(): slug for slug in known}
        meant = [
            by_lower_case[suggest] for suggest in difflib.get_close_matches(lower, by_lower_case, n=1, cutoff=0.75)
        ]
    case = "; names are case-sensitive" if meant and meant[0].lower() == lower else ""
    return f" (did you mean {meant[0]}?{case})" if meant else ""


def look_up(
    drone: Drone, module: AnsibleModule, wanted: Sequence[str], missing: str
) -> tuple[dict[str, Repo], list[str], list[str]]:
    """Return all repositories, the slugs that are meant, and what is missing, treated as the option `missing` says.

    With `synchronize` the server asks the source-code host for its list first, when something is missing. Check mode
    does not, and takes what is missing for what it would be: known, inactive and untrusted.
    """
    repos = list_repos(drone)
    slugs, absent = resolve(wanted, repos)
    if absent and missing == "synchronize":
        if drone.me().machine:
            raise Problem(
                f"`{drone.me().login}` is a machine account, which cannot synchronise: the source-code host does not know it",
                "use the token of a person's account, or missing=fail to see what is missing",
                missing=absent,
            )
        if module.check_mode:
            module.warn(f"not known to {drone.url}, which a run would synchronise first: {', '.join(absent)}")
            new = [slug for slug in absent if not is_glob(slug)]
            fresh = {name: False for name, option in SETTINGS.items() if option["type"] == "bool"}
            repos.update((slug, Repo.of({"slug": slug, "visibility": "public", **fresh})) for slug in new)
            return repos, slugs + new, absent
        drone.synchronize()
        repos = list_repos(drone)
        slugs, absent = resolve(wanted, repos)
    if absent and missing != "skip":
        raise unknown(absent, repos, drone)
    return repos, slugs, absent


# What is wished, and how it gets there


@dataclass(frozen=True)
class Wish:
    """What is wished of one repository: its settings, or that it is absent, or even forgotten."""

    settings: Mapping[str, Any]
    absent: bool = False
    forget: bool = False


def wishes_of(
    entries: Iterable[Mapping[str, Any]], defaults: Mapping[str, Any], state: str, forget: bool
) -> dict[str, Wish]:
    """Return the wish for each slug of drone_repo's `repos`; raise a Problem for what cannot be meant."""
    common = {name: value for name, value in defaults.items() if value is not None}
    check_wish("settings", common)
    wishes: dict[str, Wish] = {}
    for entry in entries:
        slug = entry["slug"]
        wish = _normalised(entry, state, forget)
        _check_entry(slug, entry, wish)
        if wish.absent and not wish.forget:
            wish = replace(wish, settings={**wish.settings, "active": False})
        wishes[slug] = _both(slug, wishes[slug], wish) if slug in wishes else wish
    if forget and not any(wish.forget for wish in wishes.values()) and wishes:
        raise Problem("forget goes with state=absent, and no repository is to be absent", "leave it out")
    return {slug: wish if wish.absent else Wish({**common, **wish.settings}) for slug, wish in wishes.items()}


def _normalised(entry: Mapping[str, Any], state: str, forget: bool) -> Wish:
    """Return the wish of one entry; what it leaves out is as for all entries."""
    absent = (entry.get("state") or state) == "absent"
    gone = absent and bool(forget if entry.get("forget") is None else entry["forget"])
    return Wish({name: entry[name] for name in SETTINGS if entry.get(name) is not None}, absent, gone)


def _check_entry(slug: str, entry: Mapping[str, Any], wish: Wish) -> None:
    """Raise a Problem for an entry that contradicts itself."""
    check_wish(slug, wish.settings)
    if entry.get("forget") and not wish.absent:
        raise Problem(f"{slug} is to be present, and forgotten", "forget goes with state=absent")
    if wish.absent and wish.settings.get("active"):
        raise Problem(f"{slug} is to be absent, and active", "leave one of them out")
    if wish.forget and wish.settings:
        raise Problem(
            f"{slug} is to be forgotten, and has settings ({', '.join(wish.settings)})", "leave one of them out"
        )


def _both(slug: str, first: Wish, second: Wish) -> Wish:
    """Return what two entries for one repository wish together; raise a Problem where they disagree."""
    if (first.absent, first.forget) != (second.absent, second.forget):
        raise Problem(f"{slug} has two entries that disagree about state or forget", "leave one of them out")
    for name in first.settings:
        if name in second.settings and first.settings[name] != second.settings[name]:
            raise Problem(
                f"{slug} has two entries that disagree: {name} is {first.settings[name]} and {second.settings[name]}",
                "leave one of them out",
            )
    return Wish({**first.settings, **second.settings}, first.absent, first.forget)


def check_wish(where: str, wish: Mapping[str, Any]) -> None:
    """Raise a Problem for a value that Drone would take without a word and that cannot be meant."""
    for name, least, unit in (("timeout", 1, " minute"), ("throttle", 0, "")):
        value = wish.get(name)
        if value is not None and value < least:
            raise Problem(f"{where}: {name} is {value}", f"it is at least {least}{unit}")
    path = wish.get("config_path")
    if path is not None and (not path.strip() or path != path.strip()):
        raise Problem(f"{where}: config_path is {path!r}", "name the pipeline's file, such as .drone.yml")


def check_version(drone: Drone, repos: Mapping[str, Repo], wishes: Mapping[str, Wish]) -> None:
    """Raise a Problem where a wish names a setting that this server's version does not have, and would ignore."""
    for slug, wish in wishes.items():
        for name in wish.settings if slug in repos else ():
            if repos[slug].settings[name] is None and name not in UNSET:
                raise Problem(f"{slug}: {drone.url} has no setting {name}", "it takes a newer Drone; leave it out")


def plan_for(drone: Drone, repo: Repo | None, wish: Wish) -> Plan:
    """Return the plan that gets a repository to what is wished; None is one that the server does not know."""
    if repo is None:
        return Plan({}, {})  # to be absent, and it is
    if wish.forget:
        return Plan(dict(repo.settings), {}, [Step("forget", partial(_forget, drone, repo.slug))])
    return plan_of(drone, repo, wish.settings)


def plan_of(drone: Drone, repo: Repo, settings: Mapping[str, Any]) -> Plan:
    """Return the plan that gives a repository these settings."""
    before = {name: repo.settings[name] for name in settings}
    changes = {name: value for name, value in settings.items() if value != before[name]}
    active = changes.pop("active", None)
    steps = []
    if changes:
        back = {name: before[name] for name in changes}
        # What was empty cannot be put back: Drone takes no null.
        undo = None if None in back.values() else partial(_set, drone, repo.slug, back)
        steps.append(Step(_summary(changes), partial(_set, drone, repo.slug, changes), undo))
    # Activation comes last: the first build already finds the settings.
    if active is not None:
        how = _activate if active else _deactivate
        steps.append(Step("activate" if active else "deactivate", partial(how, drone, repo.slug)))
    return Plan(before, dict(settings), steps)


def check_rights(drone: Drone, plans: Mapping[str, Plan]) -> None:
    """Raise a Problem, before any change, where a plan needs what this token's owner cannot do."""
    need: dict[str, str] = {}
    activations = []
    for slug, plan in plans.items():
        for name in ADMIN_ONLY:
            if plan.before.get(name) != plan.after.get(name) and name in plan.after:
                need.setdefault(name, slug)
        if plan.after.get("active") and not plan.before.get("active"):
            activations.append(slug)
    if need:
        drone.need_admin(f"{', '.join(need)} ({', '.join(dict.fromkeys(need.values()))})")
    if activations and drone.me().machine:
        shown = ", ".join(activations[:5]) + (f" and {len(activations) - 5} more" if len(activations) > 5 else "")
        raise Problem(
            f"`{drone.me().login}` is a machine account and cannot activate {shown}: the source-code host does not know it",
            "use the token of a person's account, or leave `active` alone",
        )


def change(drone: Drone, module: AnsibleModule, plans: Mapping[str, Plan]) -> dict[str, Any]:
    """Take the plans of all repositories, a few at a time, prove by one more listing that they hold, and tell of each."""

    def reread() -> dict[str, Mapping[str, Any]]:
        repos = list_repos(drone)
        return {
            slug: {name: repos[slug].settings[name] for name in plan.after or plan.before}
            for slug, plan in plans.items()
            if slug in repos
        }

    check_rights(drone, plans)
    return carry_out_each(
        plans,
        check_mode=module.check_mode,
        at_a_time=drone.connections,
        reread=reread,
        give_up_on=(Unreachable,),
    )


def _summary(changes: Mapping[str, Any]) -> str:
    """Return a change of settings in words: "trust, set timeout to 90"."""
    words = {("trusted", True): "trust", ("trusted", False): "untrust"}
    parts = []
    for name, value in changes.items():
        plain = str(value).lower() if isinstance(value, bool) else value
        parts.append(words.get((name, value)) or f"set {name} to {plain}")
    return ", ".join(parts)


def _set(drone: Drone, slug: str, changes: Mapping[str, Any]) -> None:
    def as_wished(row: object) -> bool:
        return isinstance(row, dict) and Repo.of(row).settings.items() >= changes.items()

    def look() -> object:
        row = drone.get(repo_route(slug))
        return row if as_wished(row) else None

    row = drone.patch(repo_route(slug), changes, look=look)
    # 200 is no proof: see ADMIN_ONLY, and a field that the server does not know is ignored without a word.
    if not as_wished(row):
        settings = Repo.of(row).settings if isinstance(row, dict) and "slug" in row else {}
        ignored = [name for name, value in changes.items() if settings.get(name) != value]
        raise Problem(
            f"{drone.url} answered 200 and did not change {', '.join(ignored)}", "is the token an administrator's?"
        )


def _activate(drone: Drone, slug: str) -> None:
    # Never twice: each activation takes the ownership over and makes the webhook anew.
    drone.post(repo_route(slug), look=lambda: _row_if(drone, slug, active=True))


def _deactivate(drone: Drone, slug: str) -> None:
    drone.delete(repo_route(slug), look=lambda: _row_if(drone, slug, active=False))


def _row_if(drone: Drone, slug: str, *, active: bool) -> object:
    row = drone.get(repo_route(slug))
    return row if row.get("active") is active else None


def _forget(drone: Drone, slug: str) -> None:
    gone = "gone"
    drone.delete(repo_route(slug), look=lambda: gone if drone.find(repo_route(slug)) is None else None, remove="true")
