# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sphinx's settings for the documentation site; `make docs-site` puts the pages together and runs it."""

project = "multiarch.drone"
copyright = "The multiarch.drone authors"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
html_theme = "furo"
html_title = "multiarch.drone"
myst_heading_anchors = 3
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
# Links into the repository and to web pages are checked by tests/tools/docs-site, which needs no network.
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]
default_role = "any"
