"""Training an LSTM language model against eager PyTorch, in one process and in turns.

Both do the work of configs/rnn_lm/train.py: 2 layers of 200 units, 10,000 words, windows of 20 tokens of 20 rows whose
state is carried, the loss summed over time and averaged over rows, clipping at 5, SGD. The tokens are random. Both in
float32 and in bfloat16: ours as `student.dtype` has it, PyTorch's under its autocast.
"""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.benchmark import pytorch_step
from codir_jax.benchmark.turns import spread
from codir_jax.evaluation.turns import in_turns
from codir_jax.models.heads import build_model
from codir_jax.models.lstm import SIZES
from codir_jax.objectives import language_model
from codir_jax.objectives.contract import Setting, make_objective
from codir_jax.objectives.heads.language_model import LanguageModel
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import placement, rules
from codir_jax.stage.initial_state import InitialState
from codir_jax.training import optimizer

ROWS, LENGTH, STEPS = 20, 20, 10
CLIP_NORM = 5.0
DTYPES = ("float32", "bfloat16")


def measure(num_turns: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Turns of STEPS train steps each, after one that compiles.

    Returns:
      {"tokens_per_second": {arm: the median}, "ratio": {arm of ours: {"median", "min", "max"}}, "num_turns"}; the
      ratio is over PyTorch's faster one.

    Raises:
      UserError: PyTorch is not installed.
    """
    batches = _batches()
    theirs = {f"PyTorch, eager, {dtype}": _torch_steps(batches, dtype) for dtype in DTYPES}
    ours = {f"codir, {dtype}": _our_steps(batches, dtype) for dtype in DTYPES}
    seconds = {name: values[1:] for name, values in in_turns(theirs | ours, num_turns + 1, say).items()}
    tokens = STEPS * ROWS * LENGTH
    rates = {name: [tokens / value for value in values] for name, values in seconds.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    best = max(theirs, key=medians.get)
    return {
        "tokens_per_second": medians,
        "ratio": {name: spread(rates[name], rates[best]) for name in ours},
        "num_turns": num_turns,
    }


def _batches() -> list[dict[str, np.ndarray]]:
    ids = np.random.default_rng(0).integers(0, SIZES["lstm-small"].vocab_size, (STEPS, ROWS, LENGTH + 1), np.int32)
    mask = np.ones((ROWS, LENGTH), np.int32)
    rest = {"attention_mask": mask, "token_type_ids": 0 * mask, "example_mask": np.ones(ROWS, np.float32)}
    is_start = [np.full(ROWS, step == 0, np.float32) for step in range(STEPS)]
    return [
        {"input_ids": one[:, :-1], "next_ids": one[:, 1:], "is_start": first, **rest}
        for one, first in zip(ids, is_start, strict=True)
    ]


def _our_steps(batches, dtype: str) -> Callable[[], None]:
    """A function that trains on all batches, as a run does."""
    options = optimizer.default_config()
    options.update({"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "clip_norm": CLIP_NORM})
    student = build_model(SIZES["lstm-small"], "language_model", dtype=jnp.dtype(dtype))
    start = InitialState(
        objective=make_objective(language_model.default_config(), Setting(head=LanguageModel(), student=student)),
        tx=optimizer.make_optimizer(options, lambda step: 0.1),
        example=batches[0],
        mesh=mesh_lib.make_mesh(mesh_lib.default_config()),
        rules=rules.RULES,
        num_steps=STEPS,
        gradient_dtype=dtype,
    )
    abstract = start.abstract()
    step, state = start.step(abstract), start.fill_state(abstract[0], None)
    split = rules.batch_sharding(start.mesh)

    def steps() -> None:
        nonlocal state
        for batch in placement.put_ahead(batches, split):
            state, _ = step(state, {}, batch)
        jax.block_until_ready(state)

    return steps


def _torch_steps(batches, dtype: str) -> Callable[[], None]:
    """The same in PyTorch, as its word-language-model example does it."""
    torch = pytorch_step.import_torch()
    sizes = SIZES["lstm-small"]
    embedding = torch.nn.Embedding(sizes.vocab_size, sizes.hidden_size)
    layers = torch.nn.LSTM(sizes.hidden_size, sizes.hidden_size, sizes.num_layers, batch_first=True)
    decoder = torch.nn.Linear(sizes.hidden_size, sizes.vocab_size)
    weights = [*embedding.parameters(), *layers.parameters(), *decoder.parameters()]
    sgd = torch.optim.SGD(weights, lr=0.1)
    loss_of = torch.nn.CrossEntropyLoss(reduction="sum")
    tokens = [(torch.from_numpy(b["input_ids"]).long(), torch.from_numpy(b["next_ids"]).long()) for b in batches]

    def steps() -> None:
        state = None
        for ids, following in tokens:
            sgd.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                states, state = layers(embedding(ids), state)
                loss = loss_of(decoder(states).flatten(0, 1), following.flatten()) / ROWS
            state = tuple(part.detach() for part in state)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, CLIP_NORM)
            sgd.step()

    return steps
