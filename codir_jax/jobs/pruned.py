"""The student that is exported, with the vocabulary of the user's train texts: `codir compress --prune_vocabulary`."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from codir_jax.convert import export, pretrained, pruned_vocabulary, save
from codir_jax.convert.folder import model_folder
from codir_jax.convert.pruned_vocabulary import Pruned
from codir_jax.data import dataset, length_buckets, pipeline
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.splits import RawSplit
from codir_jax.models.heads import head_spec
from codir_jax.processes import console, whole
from codir_jax.processes.user_error import UserError
from codir_jax.stage.assembled import make_tokenizer

BOUND = 1e-5
# Train texts whose answers are compared, spread over the file.
_NUM_COMPARED = 256


def check(first: ConfigDict, pruned: ConfigDict) -> None:
    """Refuses a job whose vocabulary cannot be pruned, before anything is trained.

    Args:
      first: config of the job's first stage: its tokenizer, which later stages take over, is there.
      pruned: config of the stage whose model is pruned.
    """
    if "sources" in pruned.data:
        raise UserError("--prune_vocabulary is of students of labelled texts; a model of running text is for any text")
    pruned_vocabulary.check(make_tokenizer(first))


def write(model: str, stage: Path, config: ConfigDict, folder: Path) -> dict[str, Any]:
    """Writes the smaller model to `folder/best`, beside what its run is told by; returns facts for the report.

    Args:
      model: Hugging Face folder of the stage's best. stage: its workdir. config: of the stage.

    Raises:
      convert.export.ParityError: answers on the train texts differ by more than `BOUND`.
    """
    where = model_folder(model, "--model")
    head, before = pretrained.stored_head(where), tokenizer_lib.load_tokenizer(where)
    source = pretrained.load_pretrained(where, head=head)
    splits = dataset.read(config.data).splits
    train = splits["train"]
    made = pruned_vocabulary.prune(source, before, train)
    length = tokenizer_lib.served_length(before, source.config.max_length)
    difference = _difference(source, before, made, head, train, length)
    facts = {
        "words": len(made.kept),
        "words_before": source.config.vocab_size,
        "difference": difference,
        "num_compared": min(_NUM_COMPARED, len(train)),
    }
    told = (
        f"vocabulary pruned to {facts['words']:,} of {facts['words_before']:,} tokens: largest difference of "
        f"{head_spec(head).answer} over {facts['num_compared']} train texts {difference:.2e} (bound {BOUND:.0e})"
    )
    if difference > BOUND or difference != difference:
        raise export.ParityError(f"{model}: {told}; nothing was written")
    with whole.folder(folder) as aside:
        save.save_pretrained(
            aside / "best",
            made.source.config,
            made.source.params,
            head=head,
            sentence=source.sentence,
            hf_config=made.source.hf_config,
            labels=source.labels,
        )
        tokenizer_lib.save_tokenizer(made.tokenizer, aside / "best", length)
        for name in ("results.json", "config.json"):
            shutil.copy2(stage / name, aside / name)
    if "dev" in splits:
        told += f"; {pruned_vocabulary.spelling(before, made, splits['dev'], length)}"
    console.say(told)
    return {**facts, "parity": told}


def _difference(source, tokenizer, made: Pruned, head: str, texts: RawSplit, length: int) -> float:
    """The largest difference of answers to the same texts, each model with its own tokenizer."""
    some = texts.take(np.linspace(0, len(texts) - 1, min(_NUM_COMPARED, len(texts))).astype(int).tolist())
    some = dataclasses.replace(some, labels=None, columns={}, apart=())
    answers = []
    for model, own in ((source, tokenizer), (made.source, made.tokenizer)):
        examples, _ = dataset.tokenize_split(some, own, length, False)
        parts = []
        for batch in pipeline.eval_batches(
            examples,
            batch_size=min(32, len(examples)),
            length_buckets=length_buckets.ladder(length),
            pad_token_id=own.pad_token_id,
        ):
            inputs = [np.asarray(batch[name], np.int32) for name in export.INPUTS]
            found = export.answers_of(model, head, inputs)
            parts.append(found[batch["example_ids"] < len(examples)])
        answers.append(np.concatenate(parts))
    return export.distance(*answers)
