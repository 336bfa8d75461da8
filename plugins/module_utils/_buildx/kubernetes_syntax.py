# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kubernetes' own syntax: quantities, names, labels, annotations, tolerations, checked before anything runs.

Source: k8s.io/apimachinery (pkg/api/resource, pkg/util/validation), and how buildx splits the options (driver/kubernetes).
"""

from __future__ import annotations

import re
from fractions import Fraction

QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:([eE][+-]?\d{1,2})|([KMGTPE]i)|([numkMGTPE]))?")
DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
RESERVED = {"labels": "app", "annotations": "buildx.docker.com/platform"}
TOLERATION = ("key", "operator", "value", "effect", "tolerationSeconds")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def quantity(text: str) -> Fraction:
    """Return the value of a quantity as Kubernetes writes it: 500m, 2, 1.5, 2Gi, 1e3."""
    match = QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a Kubernetes quantity such as 500m, 2, 512Mi or 2Gi")
    number = Fraction(match.group(1) if match.group(1)[0] != "." else "0" + match.group(1))
    if match.group(3):
        return number * Fraction(1024 ** " KMGTPE".index(match.group(3)[0]))
    power = int(match.group(2)[1:]) if match.group(2) else DECIMAL.get(match.group(4) or "", 0)
    return number * (Fraction(10**power) if power >= 0 else Fraction(1, 10**-power))


def check_quantity(text: str) -> None:
    """Accept a quantity."""
    quantity(text)


def check_positive_quantity(text: str) -> None:
    """Accept a quantity that is more than nothing."""
    if quantity(text) <= 0:
        raise ValueError(f"{text!r} is nothing: give more, or leave the option out")


def check_replicas(text: str) -> None:
    """Accept a number of pods."""
    if not re.fullmatch(r"\d+", text) or not 1 <= int(text) < 2**31:
        raise ValueError(f"{text!r} is not a number of pods: write 1 or more")


def check_namespace(text: str) -> None:
    """Accept the name of a namespace."""
    if not LABEL.fullmatch(text) or len(text) > 63:
        raise ValueError(f"{text!r} is not a valid name: up to 63 lower case letters, digits and dashes")


def check_object(text: str) -> None:
    """Accept the name of an object: a service account, a scheduler."""
    if not SUBDOMAIN.fullmatch(text) or len(text) > 253:
        raise ValueError(f"{text!r} is not a valid name: lower case letters, digits, dashes and dots")


def check_image(text: str) -> None:
    """Accept a reference of an image."""
    if not re.fullmatch(r"[a-z0-9][^\s]*", text, re.IGNORECASE) or re.search(
        r"[A-Z]", text.partition(":")[0].rpartition("/")[2]
    ):
        raise ValueError(f"{text!r} is not a valid image reference such as moby/buildkit:v0.24.0")


def check_balance(text: str) -> None:
    """Accept a way to choose the pod of a build."""
    if text not in ("sticky", "random"):
        raise ValueError(f"{text!r} is neither sticky nor random")


def check_key(key: str) -> None:
    """Accept the key of a label, an annotation or a taint: an optional domain, and a name."""
    domain, found, name = key.rpartition("/")
    if (found and (not SUBDOMAIN.fullmatch(domain) or len(domain) > 253)) or not NAME.fullmatch(name) or len(name) > 63:
        raise ValueError(f"{key!r} is not a valid key: write NAME or DOMAIN/NAME, the name of up to 63 characters")


def check_value(value: str) -> None:
    """Accept the value of a label."""
    if value and (not NAME.fullmatch(value) or len(value) > 63):
        raise ValueError(f"{value!r} is not a valid value: up to 63 letters, digits, dashes, dots and underscores")


def pairs(text: str) -> dict[str, str]:
    """Return the pairs of an option as buildx reads them."""
    found: dict[str, str] = {}
    for pair in text.strip('"').split(","):
        key, separator, value = pair.partition("=")
        if not separator or "=" in value:
            raise ValueError(f"{pair!r} is not name=value; several are separated by commas")
        if key in found:
            raise ValueError(f"{key} is given twice")
        found[key] = value
    return found


def check_labels(text: str) -> None:
    """Accept labels."""
    for key, value in pairs(text).items():
        check_key(key)
        check_value(value)
        if key == RESERVED["labels"]:
            raise ValueError(f"the label {key} is buildx's own: take another key")


def check_selector(text: str) -> None:
    """Accept the labels of nodes."""
    for key, value in pairs(text).items():
        check_key(key)
        check_value(value)


def check_annotations(text: str) -> None:
    """Accept annotations."""
    for key in pairs(text):
        check_key(key)
        if key == RESERVED["annotations"]:
            raise ValueError(f"the annotation {key} is buildx's own: declare platforms")


def tolerations(text: str) -> list[dict[str, str]]:
    """Return the tolerations of an option as buildx reads them."""
    found = []
    for one in text.split(";"):
        toleration: dict[str, str] = {}
        for pair in one.split(","):
            name, separator, value = pair.partition("=")
            # buildx leaves out what is not a pair, without a word.
            if not separator or "=" in value or name not in TOLERATION:
                known = ", ".join(TOLERATION)
                raise ValueError(f"{pair!r} is not one of {known}, as in key=ci,operator=Exists;key=arm64")
            if name in toleration:
                raise ValueError(f"{name} is given twice")
            toleration[name] = value
        found.append(toleration)
    return found


def check_tolerations(text: str) -> None:
    """Accept tolerations."""
    for one in tolerations(text):
        operator, key = one.get("operator") or "Equal", one.get("key") or ""
        if operator not in ("Equal", "Exists"):
            raise ValueError(f"operator {operator!r} is neither Equal nor Exists")
        if one.get("effect") and one["effect"] not in EFFECTS:
            raise ValueError(f"effect {one['effect']!r} is not one of {', '.join(EFFECTS)}")
        if key:
            check_key(key)
        elif operator != "Exists":
            raise ValueError("a toleration without a key needs operator=Exists")
        if operator == "Exists" and one.get("value"):
            raise ValueError("a toleration with operator=Exists has no value")
        check_value(one.get("value") or "")
        if "tolerationSeconds" in one:
            if not re.fullmatch(r"\d+", one["tolerationSeconds"]):
                raise ValueError(
                    f"tolerationSeconds {one['tolerationSeconds']!r} is not a number: write a number of seconds"
                )
            if one.get("effect") != "NoExecute":
                raise ValueError("tolerationSeconds needs effect=NoExecute")
