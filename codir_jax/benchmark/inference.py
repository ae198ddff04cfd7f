"""Evaluation of a split, and latency of single passes, of teacher and student."""

import time
from typing import Any

from codir_jax.benchmark import memory
from codir_jax.benchmark.subject import Subject
from codir_jax.benchmark.timing import CompileClock
from codir_jax.benchmark.training import rates
from codir_jax.benchmark.work import Work, forward_flops
from codir_jax.evaluation import cost

BATCH_SIZES = (1, 32)


def evaluation(subject: Subject) -> dict[str, Any]:
    """What it costs to run the student over dev (train, where there is no dev): the best of three passes.

    One before them compiles.
    """
    stage = subject.stage
    split = "dev" if "dev" in stage.task.splits else "train"
    work = Work()
    for batch in stage.feed.evaluation(split):
        work.add(batch)
    seconds = []
    with CompileClock() as compiling:
        for _ in range(4):
            start = time.perf_counter()
            stage.task.examine(stage.feed, stage.student.module, subject.student_params, stage.layout, split)
            seconds.append(time.perf_counter() - start)
    best = min(seconds[1:])
    flops = forward_flops(stage.student.config, subject.outputs, work)
    return {
        "split": split,
        "num_examples": work.sentences,
        "batch_size": stage.config.data.eval_batch_size,
        **rates(work, best),
        "seconds": best,
        "num_shapes": len(work.shapes),
        "compile_seconds": compiling.seconds,
        "flops_per_second": {name: flops[name] / best for name in ("padded", "real")},
        "peak_memory": memory.peak(),
    }


def inference(subject: Subject, *, num_repeats: int) -> dict[str, Any]:
    """Milliseconds of a pass over full-length inputs, teacher and student in turns, and how many times faster it is."""
    length, head = subject.config.data.max_length, subject.stage.task.head.name
    models = {
        "teacher": (
            cost.answer(subject.stage.teacher.module, head),
            subject.stage.teacher.params,
        ),
        "student": (
            cost.answer(subject.stage.student.module, head),
            subject.stage.student.params,
        ),
    }
    times = cost.latency(models, seq_len=length, batch_sizes=BATCH_SIZES, num_repeats=num_repeats)
    ratios = {
        f"batch_{size}_p50": times["teacher"][f"batch_{size}_p50_ms"] / times["student"][f"batch_{size}_p50_ms"]
        for size in BATCH_SIZES
    }
    largest = max(BATCH_SIZES)
    return {
        "length": length,
        **times,
        "teacher_over_student": ratios,
        "sentences_per_second": largest * 1e3 / times["student"][f"batch_{largest}_p50_ms"],
        "peak_memory": memory.peak(),
    }
