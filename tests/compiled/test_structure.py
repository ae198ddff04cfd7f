"""What the compilers of H200 and v5e make of a step: arrays that must not grow, what is sent and donated.

python -m pytest -m aot tests/compiled   # where codir-jax[aot-gpu] or [aot-tpu] is installed
"""

import functools
import math
import re

import pytest

from codir_jax.plan import compiled as compiled_lib
from codir_jax.plan import machines, memory, topology
from codir_jax.sharding import collectives
from tests.plan.compiled import plan

pytestmark = [pytest.mark.aot, pytest.mark.parametrize("machine", ["h200-8", "v5e-8"])]

# No two of these, and no product of them, are the same size by chance.
BATCH, HIDDEN, NUM_TRAIN = 448, 128, 50000
CODIR = {"batch_size": BATCH, "hidden": HIDDEN, "num_train": NUM_TRAIN, "layers": (1, 1), "length": 24}
ROUNDED = (("student.dtype", "bfloat16"), ("optimizer.gradient_dtype", "bfloat16"))
FSDP = {"method": "finetune", "layers": (1, 1), "mesh": (2, 4, 1), "overrides": ROUNDED}
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]+)\]")


@functools.cache
def _made(machine, is_fsdp):
    """(planned, HLO text, memory) of a step."""
    on = machines.parse(machine)
    if not topology.is_installed("libtpu" if on.machine.platform == "tpu" else "jax_plugins.xla_cuda13"):
        pytest.skip(f"pip install 'codir-jax[aot-{on.machine.platform}]'")
    planned = plan(**(FSDP if is_fsdp else CODIR))
    lowered = compiled_lib.lower(planned, topology.devices(on))
    made = lowered.compile(compiler_options=topology.compiler_options(on))
    return planned, made.as_text(), made.memory_analysis()


def _shapes(text):
    return {(dtype, tuple(map(int, dims.split(",")))) for dtype, dims in _ARRAY.findall(text)}


def test_no_array_grows_with_the_square_of_the_batch_the_train_set_or_hidden_times_batch(machine):
    _, text, _ = _made(machine, False)
    for _, dims in _shapes(text):
        assert dims.count(BATCH) < 2, dims
        assert NUM_TRAIN not in dims or len(dims) == 1, dims
        assert not (BATCH in dims and HIDDEN in dims and len(dims) == 2 and math.prod(dims) == BATCH * HIDDEN), dims


def test_nothing_is_64_bits_wide_or_sent_from_all_to_all(machine):
    _, text, _ = _made(machine, False)
    assert not {dtype for dtype, _ in _shapes(text)} & {"s64", "u64", "f64"}
    assert not any(one.kind == "all-to-all" for one in collectives.parse(text))


def test_everything_that_is_trained_is_donated(machine):
    planned, _, found = _made(machine, False)
    assert found.alias_size_in_bytes >= 0.999 * memory.device_bytes((planned.state.params, planned.state.opt_state))


def test_gradients_are_scattered_in_their_dtype_under_fsdp(machine):
    planned, text, _ = _made(machine, True)
    sent = {}
    for one in collectives.parse(text):
        for dtype, share in collectives.shares(one).items():
            sent[one.kind, dtype] = sent.get((one.kind, dtype), 0) + one.num_bytes * share
    kernels = 12 * HIDDEN**2
    assert sent["reduce-scatter", "bf16"] == 2 * kernels
    assert sent["reduce-scatter", "f32"] >= 4 * 1000 * HIDDEN  # of the words
    whole = memory.device_bytes(planned.state.params)
    assert sent["all-reduce", "f32"] + sent["all-reduce", "bf16"] < whole
