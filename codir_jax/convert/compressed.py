"""A finished model made smaller at once: read, compressed by a method of `compression.methods`, written packed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from codir_jax.compression import methods
from codir_jax.compression.methods import Step
from codir_jax.convert import fingerprint, pretrained, save
from codir_jax.convert.folder import copy_noise, weight_bytes
from codir_jax.models.contract import family
from codir_jax.processes.user_error import UserError


class Compressed(NamedTuple):
    """Attributes:
    folder: what was written. num_bytes: of its file of weights, as it lies there.
    changed: words of a step -> paths of the weights that it changed; {"units50": ()} of a model of other sizes.
    verdict: that the folder holds what was compressed, in words.
    """

    folder: Path
    num_bytes: int
    changed: dict[str, tuple[str, ...]]
    verdict: str


class NotEqualError(RuntimeError):
    """The folder holds other weights than those that were written."""


def compress(folder: str | os.PathLike, method: str, output: str | os.PathLike, tokenizer: Any) -> Compressed:
    """Writes a model folder's model, compressed, and reads it again.

    Args:
      folder: a Hugging Face folder with a trained head. method: such as "int8" or "rank64+int4".
      output: made if it is not there. tokenizer: of transformers.

    Raises:
      UserError: no such method, or it leaves weights as they are that it was asked to change.
      NotEqualError: what was read again differs in a bit.
    """
    head = pretrained.stored_head(folder)
    source = pretrained.load_trained(folder, head)
    config, weights, changed = of_model(source.config, source.params, methods.parse(method))
    output = save.save_weights(
        output,
        config,
        weights,
        head=head,
        sentence=source.sentence,
        hf_config=source.hf_config,
        labels=source.labels,
    )
    tokenizer.save_pretrained(str(output))
    copy_noise(source.folder, output)
    again = pretrained.load_pretrained(output, head=head, num_labels=source.num_labels)
    if again.fingerprint != fingerprint.of_model(config, methods.tree_of(weights)):
        raise NotEqualError(f"{output} holds other weights than those that were written; write it again")
    verdict = f"re-read equal to the last bit, {sum(len(paths) for paths in changed.values())} weights changed"
    return Compressed(output, weight_bytes(output), changed, verdict)


def of_model(config: Any, params: Mapping[str, Any], steps: tuple[Step, ...]):
    """(config, path -> weight, step -> changed paths) of a model in memory, compressed."""
    of_family = [step for step in steps if step.kind == "units"]
    for step in of_family:
        config, params = _shrink(config)(config, params, share=step.sparsity)
    weights, changed = methods.compress(params, [step for step in steps if step.kind != "units"])
    return config, weights, {**{step.in_words(): () for step in of_family}, **changed}


def check(method: str, config: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses a method before there is a model.

    Args:
      config: of the model. shapes: path -> shape of its weights.

    Raises:
      UserError: as `compress`.
    """
    for step in methods.parse(method):
        if step.kind == "units":
            _shrink(config)(config, None, share=step.sparsity)
        else:
            methods.matching(step, shapes)


def _shrink(config: Any):
    ways = family(config.family).shrink
    if "units" not in ways:
        raise UserError(
            f"{family(config.family).title} models have no units that can be left out; use prune, rank or int"
        )
    return ways["units"]
