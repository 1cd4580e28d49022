"""`ipt-bridge demo` as a newcomer runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEADLINE_S = 400
"""The FHIR server's first start on a busy machine takes minutes."""
DEMO = (sys.executable, "-m", "service", "demo")


def play(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the demo once to its end."""
    return subprocess.run(
        [*DEMO, "--once", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        # Another installation's settings must not reach the demo.
        env=os.environ | {"IPT_STORE__URL": "postgresql://nobody@127.0.0.1:1/none"},
    )


def rows(output: str) -> dict[str, str]:
    """Return the table's first line of each patient."""
    return {line.split()[0]: line for line in output.splitlines() if re.match(r"\s*P-\d{4} ", line)}


@pytest.mark.parametrize("options", [("--no-fhir", "--patients", "6", "--seed", "1"), ("--patients", "3")])
def test_demo_plays_every_patient_and_delivers_every_plan(options: tuple[str, ...]) -> None:
    """Kafka alone, and Kafka with the FHIR server: a line for each patient, scores and findings in it."""
    played = play(*options)
    assert 0 == played.returncode, played.stdout + played.stderr
    patients = 6 if "--no-fhir" in options else 3
    assert [f"P-{number:04}" for number in range(1, patients + 1)] == list(rows(played.stdout))
    assert f"plans delivered {patients} of {patients}" in played.stdout
    assert "parked 3" in played.stdout
    assert ("FHIR server" in played.stdout) == ("--no-fhir" not in options)
    assert ("A second EHR, which takes only documents" in played.stdout) == ("--no-fhir" not in options)
    ways = re.findall(r"^ (\w+) +(\d+) plans as (.+)$", played.stdout, re.MULTILINE)
    expected = [("kafka", str(patients), "records of a Kafka topic")]
    if "--no-fhir" not in options:
        expected = [("documents", "3", "notes"), ("ehr", "3", "resources"), *expected]
    assert expected == ways
    assert re.search(r"grief and loss +\d+ [▁-█]+ +\d+ ↓", rows(played.stdout)["P-0001"])
    assert "! self-harm item answered" in rows(played.stdout)["P-0003"]


def test_demo_stays_up_for_a_look_until_ctrl_c() -> None:
    """The next commands work as printed while it is up; Ctrl-C ends it with its service and its files."""
    demo = subprocess.Popen([*DEMO, "--no-fhir", "--patients", "3"], stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        said = "".join(lines)
        (config,) = re.findall(r"IPT_CONFIG=(\S+)", said)
        commands = re.findall(r"ipt-bridge ((?:show|explain) P-\d{4})", said)
        assert ["show", "explain"] == [command.split()[0] for command in commands]
        for command in commands:
            answer = subprocess.run(
                [sys.executable, "-m", "service", *command.split()],
                capture_output=True,
                text=True,
                check=False,
                timeout=DEADLINE_S,
                env=os.environ | {"IPT_CONFIG": config},
            )
            assert 0 == answer.returncode, answer.stderr
            assert command.split()[1] in answer.stdout
        demo.send_signal(signal.SIGINT)
        assert 0 == demo.wait(timeout=DEADLINE_S)
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.wait(timeout=DEADLINE_S)
        demo.stdout.close()
    assert not Path(config).exists()
