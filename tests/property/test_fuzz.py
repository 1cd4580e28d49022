"""The fuzz target over the inbound path, for a bounded number of records; `make fuzz` runs it for long."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 20_000
ROOT = Path(__file__).parents[2]
HAS_ATHERIS = (sys.platform, platform.machine()) == ("linux", "x86_64")


@pytest.mark.skipif(not HAS_ATHERIS, reason="atheris has wheels for Linux on x86-64 only")
def test_no_record_that_coverage_leads_to_raises_hangs_or_loses_a_change(tmp_path: Path) -> None:
    """What the fuzzer finds is left as a file, which the message names."""
    corpus, found = tmp_path / "corpus", tmp_path / "found"
    corpus.mkdir()
    found.mkdir()
    run = subprocess.run(
        [sys.executable, "-m", "tests.property.fuzz_inbound", corpus, f"-runs={RUNS}", f"-artifact_prefix={found}/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == run.returncode, run.stderr[-4000:]
    assert f"Done {RUNS} runs" in run.stderr
    assert [] == list(found.iterdir())
