"""Command lines that are right and wrong: each is accepted, or refused in words that name the cause; nothing is lost.

The cases run in a process of their own, which forks for each: this one's JAX may have started its devices.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import cases, harness

ROOT = Path(__file__).resolve().parents[2]


def _fuzz(folder: Path, *arguments: str, seconds: float) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.fuzz", f"--folder={folder}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)


def test_no_quick_case_has_a_fault(tmp_path):
    done = _fuzz(tmp_path, "--quick", seconds=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_there_are_cases_of_every_kind():
    read = cases.read()
    assert len(read) >= 400 and sum(case.expect == "ok" for case in read) >= 100
    names = [(case.group, case.name) for case in read]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, twice


@pytest.mark.slow
@pytest.mark.parametrize("group", sorted({case.group for case in cases.read()}))
def test_no_case_has_a_fault(group, tmp_path):
    done = _fuzz(tmp_path, f"--group={group}", seconds=3600)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]


CASE = cases.Case("x", "x", [], "refuse", says="learning_rate")


@pytest.mark.parametrize(
    ("expect", "status", "text", "kind"),
    [
        ("refuse", 2, "error: optimizer.learning_rate must be > 0", "ok"),
        ("refuse", 2, "error: bad value", "unclear"),
        ("refuse", 2, "learning_rate?", "unclear"),
        ("refuse", 3, "error: learning_rate", "unclear"),
        ("refuse", 0, "learning_rate", "silent"),
        ("refuse", 1, "Traceback (most recent call last):\nerror: learning_rate", "traceback"),
        ("refuse", -9, "error: learning_rate", "traceback"),
        ("refuse", None, "", "hang"),
        ("refuse", 2, f"{harness._BEGUN}\nerror: learning_rate", "late"),
        ("ok", 0, "learning_rate", "ok"),
        ("ok", 0, "", "wrong"),
        ("ok", 2, "error: learning_rate", "wrong"),
        ("either", 0, "", "ok"),
        ("either", 2, "error: no", "unclear"),
        ("refuse", 4, "error: learning_rate", "ok"),
    ],
)
def test_verdicts(expect, status, text, kind):
    assert harness._judge(CASE._replace(expect=expect), status, text) == kind


def test_a_file_that_a_command_changed_is_a_loss(tmp_path, monkeypatch):
    (tmp_path / "fixtures").mkdir()
    case = cases.Case("x", "x", [], "ok", files={"mine": "old", "answers": "old"}, may_change=("answers",))

    def clobbers(name):
        def run(command, work, until):
            (work / name).write_text("new")

        monkeypatch.setattr(harness, "_command", run)
        return harness.try_case(case, tmp_path / "case", tmp_path / "fixtures").kind

    assert clobbers("answers") == "ok"
    assert clobbers("mine") == "loss"


def test_a_case_that_does_not_end_is_a_hang(tmp_path, monkeypatch):
    (tmp_path / "fixtures").mkdir()
    monkeypatch.setattr(harness, "_command", lambda command, work, until: __import__("time").sleep(60))
    case = cases.Case("x", "x", [], "ok", seconds=0.2)
    assert harness.try_case(case, tmp_path / "case", tmp_path / "fixtures").kind == "hang"
