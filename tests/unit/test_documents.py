"""The README promises commands: each one exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted({name for name in re.findall(r"ipt-bridge ([a-z]+)", README) if name != "bridge"})
TARGETS = sorted(set(re.findall(r"make ([a-z]+)", README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_readme_exists(command: str) -> None:
    """Its help names what it does."""
    answer = CliRunner().invoke(cli, [command, "--help"])
    assert 0 == answer.exit_code
    assert "Usage:" in answer.output


@pytest.mark.parametrize("target", TARGETS)
def test_make_target_of_the_readme_exists(target: str) -> None:
    """The Makefile has it."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_files_of_the_readme_exist() -> None:
    """No link leads nowhere."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [] == [link for link in links if not (ROOT / link).exists()]
