"""Evaluation of a split, and latency of single passes, of teacher and student."""

import time
from typing import Any

from codir_jax.benchmark import memory
from codir_jax.benchmark.subject import Subject
from codir_jax.benchmark.timing import CompileClock
from codir_jax.benchmark.training import rates
from codir_jax.benchmark.work import Work, forward_flops
from codir_jax.evaluation import cost, runner

BATCH_SIZES = (1, 32)


def evaluation(subject: Subject, *, num_passes: int = 3) -> dict[str, Any]:
    """What it costs to run the student over the dev split (the train split, where there is no dev): the best pass.

    Args:
      num_passes: timed ones, after one that compiles.
    """
    split = "dev" if "dev" in subject.data.splits else "train"
    size = len(subject.data.splits[split])
    forward = runner.make_forward(subject.student.module)
    seconds = []
    with CompileClock() as compiling:
        for _ in range(num_passes + 1):
            work, start = Work(), time.perf_counter()
            batches = work.counted(subject.feed.evaluation(split))
            runner.collect(forward, subject.student_params, batches, size, subject.feed.sharding)
            seconds.append(time.perf_counter() - start)
    best = min(seconds[1:])
    flops = forward_flops(subject.student.config, subject.outputs, work)
    return {
        "split": split,
        "num_examples": size,
        "batch_size": subject.config.data.eval_batch_size,
        **rates(work, best),
        "seconds": best,
        "num_shapes": len(work.shapes),
        "compile_seconds": compiling.seconds,
        "flops_per_second": {name: flops[name] / best for name in ("padded", "real")},
        "peak_memory": memory.peak(),
    }


def inference(subject: Subject, *, num_repeats: int) -> dict[str, Any]:
    """Milliseconds of a pass over full-length inputs, teacher and student in turns, and how many times faster it is."""
    length = subject.config.data.max_length
    models = {
        "teacher": (_logits(subject.teacher.module), subject.teacher.params),
        "student": (_logits(subject.student.module), subject.student.params),
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


def _logits(module):
    return lambda params, *inputs: module.apply({"params": params}, *inputs).logits
