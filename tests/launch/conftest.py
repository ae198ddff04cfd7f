"""The launchers are scripts, not a package: their folder joins the path, and programs of a cluster are stubs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
sys.path.insert(0, str(LAUNCH))

RECORD = """#!/bin/bash
{ printf '%s\\n' "$(basename "$0")" "$@"; [ -t 0 ] || cat; echo .; } >>"$RECORD"
"""


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """(run the launcher, run its dry-run text in bash) -> what its programs were given, as they wrote it down."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("gcloud", "sbatch", "kubectl", "tar"):
        (programs / name).write_text(RECORD)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def run(words, name):
        record = tmp_path / name
        record.touch()
        env = {**os.environ, "RECORD": str(record)}
        subprocess.run(words, env=env, check=True, stdin=subprocess.DEVNULL, timeout=60)
        return record.read_text()

    def both(script, arguments):
        command = [sys.executable, str(LAUNCH / script)]
        split = arguments.index("--") if "--" in arguments else len(arguments)
        dry = [*command, *arguments[:split], "--dry-run", *arguments[split:]]
        text = subprocess.run(dry, capture_output=True, text=True, check=True).stdout
        return run([*command, *arguments], "real"), run(["bash", "-c", text], "from_text"), text

    return both
