"""Jobs that are killed again and again, in children of one process whose imports are done.

A round takes one job, an empty folder and empty caches; kills it some times at moments drawn at random, lets it end,
and compares the end with that of the job that was left alone. What a round draws follows from the seed and its number.
"""

from __future__ import annotations

import collections
import json
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import harness
from tests.soak.lives import CODIR, phases_hit

_SECONDS = 600  # of a job that is left alone; more is a hang
_PARTNER_SECONDS = 120  # in which a process notices that its partner is gone
_LOST, _KILLED = 76, -signal.SIGKILL


class Job(NamedTuple):
    """A training.

    Attributes:
      name: of it.
      config: argument of --config.
      settings: overrides.
      phases: that a kill may aim at; "time" is any moment.
      num_processes: that share it.
    """

    name: str
    config: str
    settings: dict
    phases: tuple[str, ...]
    num_processes: int = 1


class Round(NamedTuple):
    """What a round did.

    Attributes:
      number, job: which one.
      hits: phase -> kills that fell into it.
      fault: what was lost; "" is nothing.
    """

    number: int
    job: str
    hits: dict[str, int]
    fault: str

    @property
    def kills(self) -> int:
        return sum(self.hits.values())


_FEW = {"data.demo_num_train": 96, "data.demo_num_dev": 64, "data.batch_size": 16, "data.eval_batch_size": 32}
_OFTEN = {
    "train.total_steps": 48,
    "train.log_every_steps": 3,  # no multiple of the others: sums of metrics are pending at checkpoints
    "train.eval_every_steps": 7,
    "train.checkpoint_every_steps": 4,
}
_TRAINS = ("time", "step", "evaluation", "write", "seal", "finalize", "best")
_TEXT = {"data.sources": "demo:60", "data.batch_size": 8, "data.eval_batch_size": 8, "data.num_workers": 1}


def jobs(folder: Path) -> list[Job]:
    """Both stages, on the embedded task and on running text, by one process and by two."""
    distil = {**_FEW, **_OFTEN, **CODIR, "teacher.path": folder / "teacher", "teacher.cache": "on"}
    text = {**_TEXT, **_OFTEN, "student.dropout": 0.1}
    teacher, student = "configs/codir/finetune_teacher.py:tiny", "configs/codir/finetune_distill.py:tiny,paper"
    return [
        Job("teacher", teacher, {**_FEW, **_OFTEN}, _TRAINS),
        Job("distil", student, distil, (*_TRAINS, "cache")),
        Job("text", "configs/codir/pretrain_teacher.py:tiny", text, (*_TRAINS, "tokens")),
        Job("teacher of two", teacher, {**_FEW, **_OFTEN}, ("time", "step", "write", "evaluation"), 2),
        Job("distil of two", student, distil, ("time", "step", "cache", "write"), 2),
    ]


def soak(folder: Path, *, kills: int, seed: int) -> Iterator[Round]:
    """Rounds until there were so many kills; those of an earlier soak of this folder and seed count."""
    harness.prepare_process(folder)
    log = folder / f"rounds-{seed}.jsonl"
    done = [Round(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
    yield from done
    count, number = sum(one.kills for one in done), len(done)
    teacher = jobs(folder)[0]
    if not (folder / "teacher" / "results.json").exists():
        shutil.rmtree(folder / "teacher", ignore_errors=True)
        assert _live(teacher, folder / "teacher", folder / "cache-teacher", folder / "logs" / "teacher") == [0]
    while count < kills:
        one = _round(folder, seed, number)
        with log.open("a") as file:
            file.write(json.dumps(one._asdict()) + "\n")
        yield one
        count, number = count + one.kills, number + 1


def _round(folder: Path, seed: int, number: int) -> Round:
    of_all = jobs(folder)
    job = of_all[number % len(of_all)]
    draw = random.Random(f"{seed}-{number}")
    logs = folder / "logs" / str(number)
    straight, seconds = _straight(job, folder)
    killed, cache = folder / "killed", folder / "cache-killed"
    for place in (killed, cache, logs):
        shutil.rmtree(place, ignore_errors=True)
    hits: collections.Counter = collections.Counter()
    fault = ""
    for life in range(draw.randint(6, 14)):
        kill = (
            draw.choice(job.phases),
            draw.randint(1, 3),
            draw.random(),
            draw.randrange(2**job.num_processes - 1) + 1,
        )
        place = logs / str(life)
        statuses = _live(job, killed, cache, place, kill=kill, seconds=seconds)
        if _KILLED in statuses:
            hits[phases_hit(place / "phases-0")[0]] += 1
        wrong = [s for s in statuses if s not in ((0, _KILLED) if _KILLED not in statuses else (0, _KILLED, _LOST))]
        if wrong:
            fault = f"life {life} ended with {statuses}, see {place}"
        if fault or _KILLED not in statuses:
            break
    if not fault:
        statuses = _live(job, killed, cache, logs / "last")
        if any(statuses):
            fault = f"the last life ended with {statuses}, see {logs / 'last'}"
        elif harness.wait(harness.forked(lambda: _compare(straight, killed), logs / "comparison.log"), 120):
            fault = f"another end, see {logs / 'comparison.log'}"
    if fault:
        shutil.copytree(killed, folder / "lost" / f"{seed}-{number}", dirs_exist_ok=True)
    else:
        shutil.rmtree(logs)
    return Round(number, job.name, dict(hits), fault)


def _straight(job: Job, folder: Path) -> tuple[Path, float]:
    """The workdir of the job that was left alone, and the seconds it took with compiled programs."""
    place = folder / "straight" / job.name.replace(" ", "_")
    told = place.with_suffix(".seconds")
    if not told.exists():
        for _ in range(2):  # the first compiles
            for old in (place, folder / "cache-straight"):
                shutil.rmtree(old, ignore_errors=True)
            started = time.monotonic()
            logs = folder / "logs" / place.name
            statuses = _live(job, place, folder / "cache-straight", logs)
            assert not any(statuses), f"{job.name} ends with {statuses}, see {logs}"
        told.write_text(str(time.monotonic() - started))
    return place, float(told.read_text())


def _live(job: Job, workdir: Path, cache: Path, logs: Path, *, kill=None, seconds: float = 0) -> list[int]:
    """Runs the job, kills it as `kill` says (phase, entries, moment, which processes); the exit statuses."""
    logs.mkdir(parents=True, exist_ok=True)
    settings = [f"--config.{key}={value}" for key, value in job.settings.items()]
    arguments = ["train", f"--config={job.config}", f"--workdir={workdir}", *settings]
    environment = {"XDG_CACHE_HOME": str(cache)}
    if job.num_processes > 1:
        environment["CODIR_COORDINATOR"] = f"127.0.0.1:{_free_port()}"
        environment["CODIR_NUM_PROCESSES"] = str(job.num_processes)
    children = [
        harness.forked(
            lambda index=index: _train(arguments, str(logs / f"phases-{index}")),
            logs / f"{index}.log",
            env={**environment, **({"CODIR_PROCESS_ID": str(index)} if job.num_processes > 1 else {})},
        )
        for index in range(job.num_processes)
    ]
    statuses: dict[int, int] = {}
    end = time.monotonic() + _SECONDS
    if kill:
        phase, entries, moment, victims = kill
        at = time.monotonic() + (moment * seconds / 2 if phase == "time" else seconds / 2)
        marker = "\nstep " if phase == "step" else f"+{phase}\n"
        while time.monotonic() < at and len(statuses) < len(children):
            if phase != "time" and _count(logs / "phases-0", marker) >= entries:
                time.sleep(0.03 * moment)
                break
            _reap(children, statuses)
            time.sleep(0.002)
        for index, child in enumerate(children):
            if victims >> index & 1 and child not in statuses:
                os.killpg(child, signal.SIGKILL)
        end = time.monotonic() + _PARTNER_SECONDS
    while len(statuses) < len(children):
        _reap(children, statuses)
        if time.monotonic() > end:
            for child in set(children) - set(statuses):
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                statuses[child] = -signal.SIGALRM  # a hang
        time.sleep(0.005)
    return [statuses[child] for child in children]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _train(arguments: list[str], phases: str) -> int:
    from codir_jax import main
    from tests.soak import child

    child.watch(phases)
    return main.main(arguments)


def _count(path: Path, marker: str) -> int:
    return ("\n" + path.read_text()).count(marker) if path.exists() else 0


def _reap(children: list[int], statuses: dict[int, int]) -> None:
    for child in children:
        if child not in statuses:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                statuses[child] = os.waitstatus_to_exitcode(status)


def _compare(straight: Path, killed: Path) -> int:
    from tests.soak.same_end import assert_same_end  # JAX starts

    damaged = list((killed / "checkpoints").glob("*.damaged*"))
    assert not damaged, f"a kill damaged a checkpoint: {damaged}"
    assert_same_end(straight, killed)
    return 0
