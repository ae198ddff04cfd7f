"""A run that is killed again and again ends with the same bits as one that was left alone.

    python -m pytest -m slow tests/soak -s                    # 25 kills of a CoDIR run with bank and queue
    SOAK_KILLS=100 SOAK_SEED=7 SOAK_FOLDER=/data/soak python -m pytest -m slow tests/soak -s

Each life of the run gets a phase and a moment within it, both at random, and kill -9 then; the phase that it was really
in is read from what it left. SOAK_FOLDER keeps workdirs and logs. Hundreds of kills, of both stages and of two
processes: `python -m tests.soak`.
"""

import collections
import os
import random
import time
from pathlib import Path

import pytest

from tests import commands
from tests.soak.lives import CODIR, phases_hit
from tests.soak.same_end import assert_same_end

SIZES = {
    "data.demo_num_train": 192,
    "data.demo_num_dev": 256,
    "data.batch_size": 32,
    "data.eval_batch_size": 32,
    "train.log_every_steps": 3,  # no multiple of the others: sums of metrics are pending at checkpoints
    "train.eval_every_steps": 7,
    "train.checkpoint_every_steps": 5,
    "train.keep_every_steps": 50,
    "train.keep_best": 1,
}
PHASES = ("start", "step", "evaluation", "write", "evaluation", "seal", "finalize")


def test_killed_and_resumed_a_run_ends_bit_equal(tmp_path):
    config = ["--config=configs/codir/finetune_teacher.py:tiny", *_overrides({**SIZES, "train.total_steps": 42})]
    fallen = _soak(config, tmp_path, kills=1, seed=1, phases=("write",), most_entries=3)
    assert sum(fallen.values()) == 1


@pytest.mark.slow
def test_soak(tmp_path):
    folder = Path(os.environ.get("SOAK_FOLDER", tmp_path))
    kills, seed = int(os.environ.get("SOAK_KILLS", "25")), int(os.environ.get("SOAK_SEED", "0"))
    teacher = ["train", "--config=configs/codir/finetune_teacher.py:tiny", f"--workdir={folder / 'teacher'}"]
    ((status, text),) = commands.run([*teacher, *_overrides(SIZES)], folder / "logs", num_devices=1)
    assert status == 0, text
    sizes = {**SIZES, **CODIR, "teacher.path": folder / "teacher", "teacher.cache_dir": folder / "teacher_cache"}
    sizes["train.total_steps"] = 16 * kills
    config = ["--config=configs/codir/finetune_distill.py:tiny,paper", *_overrides(sizes)]
    fallen = _soak(config, folder, kills=kills, seed=seed, phases=PHASES, most_entries=3)
    assert sum(fallen.values()) == kills
    if kills >= 25:
        hit = {name for phases in fallen for name in phases.split("+")}
        assert hit >= {"start", "step", "evaluation", "write"}, fallen


def _soak(config: list[str], folder: Path, *, kills: int, seed: int, phases, most_entries: int) -> collections.Counter:
    """Runs it straight and killed, compares the ends; returns phase -> kills that fell into it."""
    draw = random.Random(seed)
    straight, killed = folder / "straight", folder / "killed"
    arguments = ["train", *config]
    ((status, text),) = commands.run([*arguments, f"--workdir={straight}"], folder / "logs", num_devices=1)
    assert status == 0, text

    fallen: collections.Counter = collections.Counter()
    started = time.monotonic()
    for life in range(kills):
        wanted = phases[life % len(phases)]
        phase, step = _live_and_die(
            [*arguments, f"--workdir={killed}"], folder, life, wanted, draw.randint(1, most_entries), draw.random()
        )
        fallen[phase] += 1
        print(f"kill {life + 1:3} aimed at {wanted:10} fell into {phase} after step {step}", flush=True)
    ((status, text),) = commands.run([*arguments, f"--workdir={killed}"], folder / "logs", num_devices=1)
    assert status == 0, text
    assert not list((killed / "checkpoints").glob("*.damaged*")), "a kill damaged a checkpoint"
    assert_same_end(straight, killed)
    print(f"{kills} kills in {time.monotonic() - started:.0f} s, bit-equal: {dict(fallen)}", flush=True)
    return fallen


def _live_and_die(arguments, folder: Path, life: int, wanted: str, entries: int, moment: float) -> tuple[str, int]:
    """Starts the run, kills it about `moment` of the way through the `entries`-th `wanted`; (phase hit, last step)."""
    phases = folder / "logs" / f"phases-{life}"
    environment = {"num_devices": 1, "module": "tests.soak.child", "SOAK_PHASES": str(phases)}
    with commands.started(arguments, folder / "logs", **environment) as (process,):
        if wanted == "start":
            time.sleep(10 * moment)
        else:
            marker = "\nstep " if wanted == "step" else f"+{wanted}\n"
            _wait_for(process, phases, marker, entries * (5 if wanted == "step" else 1))
            time.sleep(0.02 * moment)
        process.popen.kill()
        process.wait()
    return phases_hit(phases)


def _wait_for(process, path: Path, marker: str, count: int) -> None:
    end = time.monotonic() + 120
    while not path.exists() or ("\n" + path.read_text()).count(marker) < count:
        assert time.monotonic() < end, process.text()
        if process.popen.poll() is not None:
            raise AssertionError(f"it ended before it could be killed; use more steps:\n{process.text()}")
        time.sleep(0.001)


def _overrides(values) -> list[str]:
    return [f"--config.{key}={value}" for key, value in values.items()]
