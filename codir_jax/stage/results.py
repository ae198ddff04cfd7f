"""What a stage leaves behind: `best/` and `results.json`. Every process calls, the first writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from codir_jax.convert import save
from codir_jax.convert import sides as sides_lib
from codir_jax.convert.labels import UNTOLD, Labels
from codir_jax.data.tokenizer import save_tokenizer
from codir_jax.processes import distributed, whole
from codir_jax.processes.user_error import CannotWriteError
from codir_jax.sharding import placement
from codir_jax.stage import workdir as workdir_lib
from codir_jax.stage.models import Model


def save_best(
    workdir: Path,
    model: Model,
    params,
    text_tokenizer,
    *,
    head: str,
    max_length: int | None = None,
    sides=None,
    beside=None,
    labels: Labels = UNTOLD,
) -> None:
    """Replaces `best/` in one rename; `params` are gathered from all devices.

    Args:
      head: of `models.heads.HEADS`. labels: of a classifier.
      max_length: tokens by which the model was judged, see `save_tokenizer`.
      sides: name -> weights that are kept with it (`convert.sides`).
      beside: name -> function (path) that writes a file of that name, without which the model is not whole.

    Raises:
      OSError: it cannot be written; `best/` is as it was.
    """
    whole_params, sides = jax.tree.map(placement.fetch, (params, sides or {}))
    if distributed.process_id() != 0:
        return
    try:
        with whole.folder(workdir / "best") as aside:
            source = model.source
            of_source = {"hf_config": source.hf_config, "sentence": source.sentence} if source else {}
            save.save_pretrained(aside, model.config, whole_params, head=head, labels=labels, **of_source)
            save_tokenizer(text_tokenizer, aside, max_length)
            sides_lib.save(aside, sides)
            for name, write in (beside or {}).items():
                write(aside / name)
    except Exception as error:  # safetensors and tokenizers have errors of their own for a full disk
        raise CannotWriteError(f"the best model cannot be written to {workdir / 'best'} ({error})") from error


def write_results(workdir: Path, facts: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Writes `results.json`: `facts()` of the run, and what is known of the machine.

    Args:
      workdir: with `best/` in it.
      facts: what the run has to tell; called in the first process only.
    """

    def write() -> dict[str, Any]:
        results = {
            **facts(),
            "num_processes": distributed.num_processes(),
            **workdir_lib.environment(),
        }
        whole.write_json(workdir / "results.json", results)
        return results

    return distributed.first_decides(write)
