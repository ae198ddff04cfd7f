"""Training, measured: single steps, or whole epochs through the loop that trains."""

import itertools
import time
from typing import Any

import jax

from codir_jax.benchmark import memory
from codir_jax.benchmark.subject import Subject
from codir_jax.benchmark.timing import CompileClock, InputClock, spread_ms
from codir_jax.benchmark.work import Work, training_flops
from codir_jax.sharding import placement
from codir_jax.training import loop
from codir_jax.training.metrics import MetricBuffer


def measure(subject: Subject, *, live: bool, steps: int, epochs: int, started: float) -> dict[str, Any]:
    """What fine-tuning, or pre-training, costs.

    With `epochs` whole epochs run as a training run does (no evaluation, no checkpoint), and the first one, which
    compiles, is left out. Otherwise one step of each shape warms up and then `steps` steps are timed one by one.

    Args:
      live: the teacher runs in the step; else its outputs come with the batch.
      started: `time.perf_counter()` from which the time to the first step counts.
    """
    facts: dict[str, Any] = {"batch_size": subject.config.data.batch_size}
    columns: dict[str, Any] = {}
    if not live:
        start = time.perf_counter()
        columns = subject.teacher_rows()
        facts["teacher_outputs_seconds"] = time.perf_counter() - start
    with CompileClock() as compiling:
        abstract = subject.stage.abstract_state(live=live)
        step = subject.stage.initial_state.step(abstract)
        state, frozen = subject.start(abstract, columns)
        state = _warm_up(subject, step, state, frozen, columns, 1 if epochs else steps, facts, started)
        before = compiling.num_programs
        run = _epochs if epochs else _steps
        timed, work, waiting = run(subject, step, state, frozen, columns, epochs or steps, facts, compiling)
        facts["compile_seconds"] = compiling.seconds
        facts["num_programs"], facts["num_programs_cached"] = compiling.num_programs, compiling.num_cached
        if not epochs:
            facts["num_programs_while_timed"] = compiling.num_programs - before
    facts |= rates(work, timed)
    facts["input_waiting_share"] = waiting / timed
    teacher_config = subject.stage.teacher.config if live else None
    flops = training_flops(subject.stage.student.config, teacher_config, subject.outputs, work)
    facts["flops_per_step"] = {
        side: {name: value / len(work.rows) for name, value in of_side.items()} for side, of_side in flops.items()
    }
    facts["flops_per_second"] = {
        name: (flops["student"][name] + flops["teacher"][name]) / timed for name in ("padded", "real")
    }
    facts["peak_memory"] = memory.peak()
    return facts


def rates(work: Work, seconds: float) -> dict[str, float]:
    """Sentences and tokens a second, and the share of real tokens."""
    return {
        "sentences_per_second": work.sentences / seconds,
        "real_tokens_per_second": work.real_tokens / seconds,
        "padded_tokens_per_second": work.padded_tokens / seconds,
        "real_token_share": work.real_tokens / work.padded_tokens,
    }


def _warm_up(subject, step, state, frozen, columns, num_steps, facts, started):
    """One step of each shape among the first `num_steps`; notes when the very first one was done."""
    seen = set()
    for batch in subject.stage.feed.train_on_host(0, num_steps, columns):
        if batch["input_ids"].shape in seen:
            continue
        seen.add(batch["input_ids"].shape)
        state, _ = jax.block_until_ready(step(state, frozen, placement.put_batch(batch, subject.stage.feed.sharding)))
        facts.setdefault("first_step_seconds", time.perf_counter() - started)
    facts["num_shapes"] = len(seen)
    return state


def _steps(subject, step, state, frozen, columns, num_steps, facts, compiling):
    """(seconds, Work, seconds of waiting) of steps that are each waited for."""
    del compiling
    work, times = Work(), [time.perf_counter()]
    clock = InputClock(_batches(subject, num_steps, columns, work), is_idle=lambda: True)  # every step is waited for

    def stamp(_, current):
        jax.block_until_ready(current)
        times.append(time.perf_counter())

    _loop(step, state, frozen, clock, num_steps, [loop.Hook(1, stamp)])
    seconds = [b - a for a, b in itertools.pairwise(times)]
    facts["num_steps"], facts["step_ms"] = len(seconds), spread_ms(seconds)
    if len(work.shapes) == 1:  # else the median step is one of a certain length, and no rate
        facts["sentences_per_second_median"] = facts["batch_size"] * 1e3 / facts["step_ms"]["median"]
    return times[-1] - times[0], work, clock.seconds


def _epochs(subject, step, state, frozen, columns, num_epochs, facts, compiling):
    """(seconds, Work, seconds of waiting) of the epochs after the first, steps queued as in training."""
    per_epoch = subject.stage.feed.steps_per_epoch
    work, buffer = Work(), MetricBuffer()
    newest: list[jax.Array] = []

    def remembering(state, frozen, batch):
        state, metrics = step(state, frozen, batch)
        newest[:] = [metrics["loss"][0]]
        return state, metrics

    def is_idle():
        return not newest or newest[0].is_ready()

    total = num_epochs * per_epoch
    clock = InputClock(_batches(subject, total, columns, work), is_idle)
    stamps, waits, programs = [time.perf_counter()], [0.0], [compiling.num_programs]

    def stamp(_, current):
        jax.block_until_ready(current)
        stamps.append(time.perf_counter())
        waits.append(clock.seconds)
        programs.append(compiling.num_programs)

    log = loop.Hook(subject.config.train.log_every_steps, lambda *_: buffer.flush())
    _loop(remembering, state, frozen, clock, total, [log, loop.Hook(per_epoch, stamp)], buffer)
    facts["num_steps"] = total
    facts["epoch_seconds"] = [b - a for a, b in itertools.pairwise(stamps)]
    facts["num_programs_after_first_epoch"] = programs[-1] - programs[1]
    facts["step_ms"] = {"mean": 1e3 * (stamps[-1] - stamps[1]) / (total - per_epoch)}
    return stamps[-1] - stamps[1], Work(work.rows[per_epoch:]), waits[-1] - waits[1]


def _batches(subject, num_steps, columns, work):
    return placement.put_ahead(
        work.counted(subject.stage.feed.train_on_host(0, num_steps, columns)), subject.stage.feed.sharding
    )


def _loop(step, state, frozen, batches, num_steps, hooks, buffer=None) -> None:
    try:
        loop.run(
            step,
            state,
            frozen,
            batches,
            start_step=0,
            num_steps=num_steps,
            buffer=buffer or MetricBuffer(),
            hooks=hooks,
            on_stop=lambda *_: None,
            name="bench",
        )
    except loop.Interrupted as error:
        raise KeyboardInterrupt from error  # nothing is kept that a second call could go on from
