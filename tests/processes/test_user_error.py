"""What is told as bad input, and what keeps its traceback."""

import numpy as np
import pytest
from jax.sharding import AbstractMesh

from codir_jax.data import length_buckets, pipeline
from codir_jax.data.splits import RawSplit
from codir_jax.evaluation import metrics
from codir_jax.losses import distillation
from codir_jax.models import heads
from codir_jax.negatives import sampling
from codir_jax.objectives.schedules import parse_schedule
from codir_jax.processes import exit_status
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules

SLIPS = {
    "shapes": lambda: distillation.regression_loss(np.zeros(2), np.zeros((2, 1))),
    "logical axes": lambda: rules.partition_spec(("embed",), (2, 3), AbstractMesh((1,), ("data",))),
    "arrays of unequal length": lambda: RawSplit(["a", "b"], None, [0]),
    "process index": lambda: pipeline.local_rows(4, 2, 2),
    "a text above the buckets": lambda: length_buckets.bucket_length(9, (8,)),
    "metric": lambda: metrics.compute(("acuracy",), np.zeros(2), np.zeros(2)),
    "head": lambda: heads.head_spec("clasification"),
    "labels": lambda: sampling.class_starts(np.zeros(3)),
}
MISTAKES = {
    "schedule": lambda: parse_schedule("0%:one"),
    "one class": lambda: sampling.class_starts(np.zeros(3, np.int32)),
    "batch size": lambda: pipeline.local_rows(5, 0, 2),
    "mesh axis": lambda: rules.with_overrides({"embed": "dta"}),
    "empty split": lambda: metrics.compute(("accuracy",), np.zeros(0), np.zeros(0)),
}


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_a_slip_of_the_program_is_not_told_as_bad_input(slip):
    with pytest.raises(ValueError) as caught:
        slip()
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_what_a_config_or_data_can_cause_is_told_as_bad_input(mistake):
    with pytest.raises(UserError):
        mistake()


def test_no_memory_is_a_sentence_and_another_fault_of_jax_a_bug(capsys):
    of_jax = type("JaxRuntimeError", (RuntimeError,), {})
    for error in (MemoryError(), of_jax("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore")):
        assert exit_status.of(error) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: out of memory (") and "data.batch_size" in told and "more" not in told
    assert exit_status.of(of_jax("INTERNAL: a fault")) is None
