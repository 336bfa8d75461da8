#!/usr/bin/python
# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drone_pipeline
version_added: 0.1.0
short_description: Describe a pipeline that builds images for several platforms, and bring it to hundreds of repositories
description:
  - A pipeline is described once, as data, and rendered to C(.drone.yml) for one of four ways to build (O(pipeline.strategy)).
    What Drone or a plugin would swallow without a word is an error here, with the near match. A misspelt setting, tags beside
    C(auto_tag), a password in clear text, an ECR registry of another region.
  - It goes into a directory (O(path)), into branches of git repositories (O(repos), one commit each, none when nothing changes),
    or into a template of the Drone server (O(template), one change for the whole fleet).
  - In a file that exists only the touched part changes. Every other document, and every comment outside it, stays byte for
    byte. A file that is no YAML, or that cannot be changed in part, is left alone, with the reason. A part that means the
    wish already stays as it is written.
options:
  path:
    description:
      - A directory, the root of a repository. The file is written there, and nothing is committed.
    type: path
  repos:
    description:
      - Git repositories whose file is committed and pushed. Each gets a result. One that fails does not keep the others
        from being done.
      - A push that somebody else's came before is made again on top of theirs. Nothing is ever forced.
      - A repository on the machine where the module runs is read in place. Of another, only one commit is fetched, without its files.
    type: list
    elements: dict
    suboptions:
      url:
        description: The repository as git takes it. V(ssh://), V(https://), V(file://), V(user@host:path) or a whole path.
        type: str
        required: true
      branch:
        description: The branch, if it is another than O(branch).
        type: str
      config_path:
        description: The file, if it is another than O(config_path).
        type: str
      slug:
        description:
          - The repository's name in Drone, V(namespace/name), for the checks. By default, the last two parts of the URL.
        type: str
      pipeline:
        description: What this repository has otherwise than O(pipeline), word by word; usually C(repo).
        type: dict
  template:
    description:
      - A template of the Drone server that holds the pipeline. Repositories load it with C(kind=template) and C(load=NAME).
      - Drone puts values in for C({{ .input.NAME }}) wherever the description has it.
    type: dict
    suboptions:
      namespace:
        description: The organisation that the template belongs to.
        type: str
        required: true
      name:
        description: The name of the template, which ends in C(.yaml) or C(.yml).
        type: str
        required: true
  state:
    description:
      - With V(absent), what O(scope) names is taken out. A pipeline goes with its last step, and the file with its last pipeline.
    type: str
    choices: [present, absent]
    default: present
  config_path:
    description: The file below the repository's root.
    type: str
    default: .drone.yml
  scope:
    description:
      - What is touched in a file that exists. With V(step), only the step named O(pipeline.step) in the pipeline named
        O(pipeline.name) is added or replaced. With V(pipeline), that document is replaced.
      - A pipeline that is not there is added as a whole. With V(step), a trigger or another key of the pipeline that differs is left
        as it is, with a warning.
    type: str
    choices: [step, pipeline]
    default: step
  pipeline:
    description:
      - The pipeline. The filter P(multiarch.drone.pipeline#filter) renders the same description to a text.
      - Where Drone's own variables are wanted, write them as in a file, V(${DRONE_COMMIT_SHA:0:8}).
    type: dict
    suboptions:
      name:
        description: The pipeline's name.
        type: str
        default: default
      strategy:
        description:
          - V(emulated) builds all platforms in one privileged step of a plugin, with QEMU's handlers of the runner host.
          - V(native) builds each platform in a pipeline of its own, on a runner of that platform, and joins the manifests in a last
            one. It needs a runner of each platform, no emulation, and O(pipeline.username) and O(pipeline.password) for joining.
          - V(cross) is V(emulated) for a Dockerfile that compiles across, so that nothing is emulated. The Dockerfile is
            checked. No stage of the target platform may C(RUN) anything, and one must be C(FROM --platform=$BUILDPLATFORM).
          - V(remote) builds on BuildKit daemons (O(pipeline.builders)) over mutual TLS. It is an ordinary step that needs neither
            privilege nor trust, and it never runs for pull requests. Whoever holds the daemon's client certificate shares its cache.
        type: str
        choices: [emulated, native, cross, remote]
        default: emulated
      plugin:
        description:
          - The plugin that builds. By default V(thegeeklab), or V(any) where O(pipeline.image) is set. Not for strategy V(remote).
          - V(thegeeklab) is C(thegeeklab/drone-docker-buildx:23), V(wp-docker-buildx) its successor, V(woodpecker)
            C(woodpeckerci/plugin-docker-buildx), V(ecr) C(ghcr.io/bitprocessor/drone-docker-buildx-ecr).
          - V(docker) is C(plugins/docker), which builds one platform in a step. Strategy V(native) makes several of them.
          - V(any) is any image. Its settings are not checked.
        type: str
        choices: [thegeeklab, wp-docker-buildx, woodpecker, ecr, docker, any]
      image:
        description: The step's image, if it is another than the plugin's own; with strategy V(remote) one that has the Docker CLI and buildx.
        type: str
      step:
        description: The step's name.
        type: str
        default: docker
      repo:
        description: The image's repository, with its registry unless that is Docker Hub. Required, here or in O(repos[].pipeline).
        type: str
      tags:
        description:
          - The image's tags. A tag such as V("1.10") needs its quotes.
          - By default V(latest). It is written out for the plugins that promise it, and without tags build and push nothing. An
            empty list writes none, for a file C(.tags) of an earlier step.
        type: list
        elements: raw
      auto_tag:
        description:
          - Make the tags from the git tag. V(v1.2.3) gives V(1), V(1.2) and V(1.2.3), a pre-release itself alone, and the default
            branch V(latest).
        type: bool
        default: false
      auto_tag_suffix:
        description: What such tags end in, behind a C(-); V(latest) becomes the suffix alone.
        type: str
      platforms:
        description: The platforms, as OCI names them (V(linux/arm64)) or as people do (V(aarch64)).
        type: list
        elements: str
      registry:
        description: The registry to log in to.
        type: str
      username:
        description: "The registry's user, a value or V({from_secret: NAME})."
        type: raw
      password:
        description: "The registry's password, as V({from_secret: NAME})."
        type: raw
      context:
        description: The build's context.
        type: str
      dockerfile:
        description: The Dockerfile.
        type: str
      target:
        description: The Dockerfile's stage to build.
        type: str
      build_args:
        description: "Build arguments, as a dictionary or as a list of C(NAME=value). A value may be V({from_secret: NAME})."
        type: raw
      labels:
        description: Labels of the image, as a dictionary or as a list of C(NAME=value).
        type: raw
      provenance:
        description: The provenance attestation; V(false) for consumers that stumble over C(unknown/unknown) entries.
        type: raw
      cache_from:
        description: Where the build takes its cache from. Commas are escaped where the plugin would split there.
        type: list
        elements: str
      cache_to:
        description: Where the build leaves its cache.
        type: list
        elements: str
      settings:
        description:
          - The plugin's other settings, as it names them, in any case (V(Dockerfile)). One that it does not know is an error.
          - "Values are as Drone takes them, V({from_secret: NAME}) too."
        type: dict
      environment:
        description: The step's environment.
        type: dict
      privileged:
        description:
          - Whether the step says that it is privileged, which takes a trusted repository. By default it does with plugins, unless
            the image is one of O(privileged_images) or C(plugins/docker), which runners privilege by themselves.
        type: bool
      pull:
        description: When the step's image is pulled.
        type: str
        choices: [always, if-not-exists, never]
      when:
        description: The step's conditions.
        type: dict
      step_extra:
        description: Other keys of the step, as they are.
        type: dict
      steps:
        description: Other steps, as they are, before this one. With strategy V(native), in the pipeline of each platform.
        type: list
        elements: dict
      steps_after:
        description: Other steps, as they are, behind this one. With strategy V(native), behind the join.
        type: list
        elements: dict
      trigger:
        description: The pipeline's trigger.
        type: dict
      depends_on:
        description: The pipelines that must have succeeded before.
        type: list
        elements: str
      extra:
        description: Other keys of the pipeline (C(type), C(platform), C(node), C(clone), C(volumes)), as they are.
        type: dict
      builders:
        description:
          - For strategy V(remote), the BuildKit daemons (role C(buildkitd)).
        type: list
        elements: dict
        suboptions:
          endpoint:
            description: The daemon's address, V(tcp://HOST:1234).
            type: str
            required: true
          platforms:
            description: The platforms that the daemon builds. With several daemons, tell of each what it builds without emulation.
            type: list
            elements: str
          servername:
            description: The name in the daemon's certificate, if it is another than the host's.
            type: str
      certificates:
        description: For strategy V(remote), the names of the secrets that hold the client's certificates in PEM format.
        type: dict
        suboptions:
          ca:
            description: The secret with the authority's certificate.
            type: str
            default: buildkit_ca
          cert:
            description: The secret with the client's certificate.
            type: str
            default: buildkit_cert
          key:
            description: The secret with the client's key.
            type: str
            default: buildkit_key
  allow_plaintext:
    description:
      - Whether credentials may stand in the file in clear text. Without it, such a description is refused.
      - What stands there in clear text is hidden in everything that the module returns.
    type: bool
    default: false
  runner_platforms:
    description:
      - What the fleet's runner hosts build, natively or emulated. A platform that no host has is an error. For strategy V(native), name
        what they build natively. Strategies V(cross) and V(remote) execute no foreign platform on a runner host, and are not looked at.
      - The playbook C(multiarch.drone.deploy_pipelines) fills it from the inventory.
    type: list
    elements: str
  privileged_images:
    description: Images that the runners privilege by themselves (C(DRONE_RUNNER_PRIVILEGED_IMAGES)), with no trust.
    type: list
    elements: str
  known_trusted:
    description:
      - Repositories (V(namespace/name)) that are trusted by the time their pipelines run, whatever the server says now. A playbook
        that trusts them first names them in check mode, so that the checks foresee what its run will find.
    type: list
    elements: str
  known_secrets:
    description: Secrets that neither the repository nor its organisation has, but another source provides (a Vault extension, say).
    type: list
    elements: str
  slug:
    description: With O(path), the repository's name in Drone, V(namespace/name), for the checks.
    type: str
  branch:
    description: The branch, instead of each repository's default one. It must exist, unless the repository is empty.
    type: str
  commit_message:
    description: The commit's message.
    type: str
    default: Build images for several platforms in Drone
  commit_author:
    description: The commit's author.
    type: str
    default: multiarch.drone <multiarch.drone@localhost>
  git_username:
    description: The user for repositories over HTTP; by default, the one in the URL, or V(git).
    type: str
  git_password:
    description:
      - The password or token for repositories over HTTP. git gets it through its environment, for that server alone.
      - Without it, git uses the user's own credential helpers.
    type: str
  git_ssh_key:
    description: The private key's file for repositories over ssh. Without it, ssh does as the user has configured it.
    type: path
  git_timeout:
    description: How many seconds git may take for one command.
    type: int
    default: 120
  at_a_time:
    description: How many repositories are read, and changed, at a time.
    type: int
    default: 4
  drone_url:
    description:
      - The Drone server's address, as its web page has it. With it, trust and secrets are checked before anything is pushed, and
        the file of a protected repository is signed. Without it, RV(skipped_checks) names what was not looked at.
      - If it is not set, the environment variable E(DRONE_SERVER) is used.
    type: str
    required: false
  drone_token:
    description:
      - The token of an account that may write to the repositories.
      - If it is not set, the environment variable E(DRONE_TOKEN) is used.
    type: str
    required: false
requirements:
  - PyYAML, which Ansible's controller has
  - git 2.28 or later, for O(repos)
notes:
  - It usually runs on the controller (C(hosts=localhost)), which has git's and Drone's credentials.
extends_documentation_fragment:
  - multiarch.drone.attributes
  - multiarch.drone.drone
seealso:
  - plugin: multiarch.drone.pipeline
    plugin_type: filter
  - module: multiarch.drone.drone_repo_trust
author: The multiarch.drone authors (@multiarch-drone)
"""

EXAMPLES = r"""
- name: The pipeline of the article, into a working copy
  multiarch.drone.drone_pipeline:
    path: /srv/app
    allow_plaintext: true # the article's password stands in the file
    pipeline:
      name: default
      plugin: thegeeklab
      step: docker
      privileged: true
      repo: octocat/example
      tags: [latest]
      platforms: [linux/amd64, linux/arm64]
      settings: {username: octocat, password: secure}

- name: One pipeline for every service, without privilege or trust
  multiarch.drone.drone_pipeline:
    drone_url: https://drone.example.com
    drone_token: "{{ vault_drone_token }}"
    git_password: "{{ vault_git_token }}"
    repos:
      - url: https://git.example.com/octocat/cart.git
        pipeline: {repo: registry.example.com/octocat/cart}
      - url: https://git.example.com/octocat/shop.git
        pipeline: {repo: registry.example.com/octocat/shop, dockerfile: docker/Dockerfile}
    pipeline:
      strategy: remote
      auto_tag: true
      platforms: [linux/amd64, linux/arm64]
      username: {from_secret: registry_username}
      password: {from_secret: registry_password}
      builders:
        - {endpoint: "tcp://builder-1.example.com:1234", platforms: [linux/amd64]}
        - {endpoint: "tcp://builder-2.example.com:1234", platforms: [linux/arm64]}
    runner_platforms: [linux/amd64, linux/arm64]

- name: A template that repositories load, changed in one place
  multiarch.drone.drone_pipeline:
    drone_url: https://drone.example.com
    drone_token: "{{ vault_drone_token }}"
    template: {namespace: octocat, name: multiarch.yaml}
    pipeline:
      repo: "{{ '{{' }} .input.repo {{ '}}' }}"
      auto_tag: true
      platforms: [linux/amd64, linux/arm64]
      username: {from_secret: docker_username}
      password: {from_secret: docker_password}
"""

RETURN = r"""
steps:
  description: What was done, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: ["https://git.example.com/octocat/shop.git: commit .drone.yml to main"]
repos:
  description: Each repository, in the order of O(repos).
  returned: with O(repos)
  type: list
  elements: dict
  contains:
    name:
      description: Its URL.
      type: str
      returned: always
    slug:
      description: Its name in Drone.
      type: str
      returned: always
    secrets:
      description: Names of the secrets that the pipeline takes from the server, without those in O(known_secrets).
      type: list
      elements: str
      returned: always
      sample: [registry_password]
    changed:
      description: Whether it was changed, or in check mode would be.
      type: bool
      returned: always
    branch:
      description: The branch that was pushed to.
      type: str
      returned: when it was changed
    commit:
      description: The commit that was made.
      type: str
      returned: when it was changed
    skipped_checks:
      description: As RV(skipped_checks), of this repository.
      type: list
      elements: str
      returned: always
    failed:
      description: Whether it failed.
      type: bool
      returned: when it failed
    msg:
      description: Why it failed, and what to do.
      type: str
      returned: when it failed
unchanged:
  description: The repositories that were as wished already.
  returned: with O(repos)
  type: list
  elements: str
text:
  description: The text of the file or the template.
  returned: with O(path) and O(template)
  type: str
skipped_checks:
  description:
    - What was not looked at. V(trust), V(secrets) and V(signature) take O(drone_url), V(platforms) takes O(runner_platforms), and
      V(dockerfile) a repository.
  returned: always
  type: list
  elements: str
  sample: [platforms, secrets, trust]
"""

from ..module_utils._pipeline.declare import ARGUMENTS, PipelineModule, deploy
from ..module_utils._serve import serve


def main() -> None:
    module = PipelineModule(
        argument_spec=dict(ARGUMENTS),
        mutually_exclusive=[("path", "repos", "template")],
        required_one_of=[("path", "repos", "template")],
        supports_check_mode=True,
    )
    serve(module, deploy)


if __name__ == "__main__":
    main()
