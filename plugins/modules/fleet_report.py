#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write the report of a fleet. What does it is plugins/action/fleet_report.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_report
short_description: Write the report of a fleet as HTML, JSON, text and metrics
version_added: 0.1.0
description:
  - Puts what the plays before it have registered about each host into one document, and compares it with the last one.
  - The playbook C(multiarch.drone.report) runs it. It runs on the controller and asks no host.
  - Writes C(report.html), C(report.json) and C(report.txt) into O(directory). In check mode it writes nothing.
extends_documentation_fragment:
  - multiarch.drone.attributes.info
options:
  hosts:
    description: Names of the hosts that the report is about.
    type: list
    elements: str
    required: true
  directory:
    description: The directory on the controller for the report. It is made where it is missing.
    type: path
    required: true
  prometheus:
    description: A file on the controller for the textfile collector of node_exporter. Its name must end in C(.prom) there.
    type: path
  fail_on:
    description:
      - When the task fails, after the report is written. V(broken) when something does not work. V(drift) also when a run would change
        something.
    type: str
    choices: [drift, broken, never]
    default: never
  drone:
    description:
      - The state of the Drone server. C(server), C(repos) as M(multiarch.drone.drone_repo_info) returns them, C(trusted) and C(declared)
        as the inventory declares them, C(steps) that a run would take, by part, C(secrets) as M(multiarch.drone.drone_repo_info) returns
        them, and C(failed), a message.
    type: dict
    default: {}
  pipelines:
    description: The pipelines, as the role C(drone_pipelines) takes them.
    type: list
    elements: dict
    default: []
  pipeline_results:
    description: What M(multiarch.drone.drone_pipeline) returned for each of O(pipelines). C(item) is its place in the list.
    type: list
    elements: dict
    default: []
  pipelines_deployed:
    description: Whether O(pipeline_results) are those of a run that deployed them. Otherwise, of one in check mode.
    type: bool
    default: false
  pipelines_failed:
    description: Why the pipelines could not be compared, where they could not.
    type: str
    default: ""
  images:
    description: The images as registries have them, as M(multiarch.drone.image_platforms_info) returns them.
    type: list
    elements: dict
    default: []
  images_named:
    description: The images that were to be read. One that O(images) lacks is a finding.
    type: list
    elements: str
    default: []
  images_failed:
    description: Why some of O(images_named) could not be read.
    type: str
    default: ""
  certificates:
    description: The directory on the controller in which the role C(buildkitd) keeps its certificates.
    type: path
  sections:
    description: Texts to add to the end of the page.
    type: list
    elements: dict
    default: []
    suboptions:
      title:
        description: The heading.
        type: str
      text:
        description: The text. Line ends are kept.
        type: str
author:
  - The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: Report of the fleet
  multiarch.drone.fleet_report:
    hosts: "{{ groups.runners }}"
    directory: /var/www/fleet
    prometheus: /var/lib/node_exporter/multiarch_drone.prom
    fail_on: broken
"""

RETURN = r"""
written:
  description: The files that were written.
  returned: always
  type: list
  elements: str
  sample: [/var/www/fleet/report.json, /var/www/fleet/report.txt, /var/www/fleet/report.html]
summary:
  description: How many hosts there are, how many cannot be reached, and how many findings of each severity there are.
  returned: always
  type: dict
  sample: {hosts: 4, unreachable: 0, broken: 1, drift: 2, note: 0, new: 1}
text:
  description: The report as text, by line.
  returned: always
  type: list
  elements: str
"""
