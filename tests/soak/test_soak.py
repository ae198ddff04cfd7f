"""A run that is killed again and again ends with the same bits as one that was left alone.

    python -m pytest -m slow tests/soak -s                    # 25 kills of a CoDIR run with bank and queue
    SOAK_KILLS=100 SOAK_SEED=7 SOAK_FOLDER=/data/soak python -m pytest -m slow tests/soak -s

Each life of the run gets a phase and a moment within it, both at random, and kill -9 then; the phase that it was really
in is read from what it left. SOAK_FOLDER keeps workdirs and logs.
"""

import collections
import json
import os
import random
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from codir_jax.convert import huggingface
from tests import commands

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
CODIR = {
    "objective.negatives.source": "in_batch+bank+queue",
    "objective.negatives.num_negatives": 16,
    "objective.negatives.queue_size": 96,
    "student.num_layers": 1,
    "student.dropout": 0.1,
}
PHASES = ("start", "step", "evaluation", "write", "evaluation", "seal", "finalize")


def test_killed_twice_and_resumed_a_run_ends_bit_equal(tmp_path):
    config = ["--config=configs/codir/finetune_teacher.py:tiny", *_overrides({**SIZES, "train.total_steps": 42})]
    fallen = _soak(config, tmp_path, kills=2, seed=1, phases=("write", "evaluation"), most_entries=3)
    assert sum(fallen.values()) == 2


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
    _assert_same_end(straight, killed)
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
    return _where(phases)


def _wait_for(process, path: Path, marker: str, count: int) -> None:
    end = time.monotonic() + 120
    while not path.exists() or ("\n" + path.read_text()).count(marker) < count:
        assert time.monotonic() < end, process.text()
        if process.popen.poll() is not None:
            raise AssertionError(f"it ended before it could be killed; use more steps:\n{process.text()}")
        time.sleep(0.001)


def _where(path: Path) -> tuple[str, int]:
    """The phases that were entered and not left, joined by +, and the last step."""
    lines = path.read_text().splitlines() if path.exists() else []
    is_open = collections.Counter()
    step = 0
    for line in lines:
        if line.startswith("step"):
            step = int(line.split()[1])
        else:
            is_open[line[1:]] += 1 if line[0] == "+" else -1
    inside = [name for name, count in is_open.items() if count > 0]
    if not step and not inside:
        return "start", 0
    return "+".join(sorted(inside)) or "step", step


def _assert_same_end(one: Path, two: Path) -> None:
    """Checkpoints array by array, metrics, the best model, the results."""
    ours, theirs = _final_state(one), _final_state(two)
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        np.testing.assert_array_equal(array, theirs[path], err_msg=path)
    lines = [(folder / "metrics.jsonl").read_text() for folder in (one, two)]
    assert lines[0] == lines[1]
    names = [[path.name for path in sorted((folder / "checkpoints").iterdir())] for folder in (one, two)]
    assert names[0] == names[1]
    models = [huggingface.load_pretrained(folder / "best").fingerprint for folder in (one, two)]
    assert models[0] == models[1]
    results = [json.loads((folder / "results.json").read_text()) for folder in (one, two)]
    for name in ("dev", "dev_last", "best_step", "num_steps", "best_fingerprint"):
        assert results[0][name] == results[1][name], name


def _final_state(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint by its path, read without the objects that wrote it."""
    import orbax.checkpoint as ocp

    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore((workdir / "checkpoints" / str(step) / "state").resolve())
    return {
        f"{step}{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _overrides(values) -> list[str]:
    return [f"--config.{key}={value}" for key, value in values.items()]
