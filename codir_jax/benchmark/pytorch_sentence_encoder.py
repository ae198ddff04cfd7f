"""A sentence encoder against sentence-transformers: epochs of its own trainer, and vectors of texts, in turns.

Both train the ranking loss (`MultipleNegativesRankingLoss`) on the same triplets from the same weights, with AdamW,
clipping at 1 and float32, in batches that each draws its own way. An epoch of theirs has the set-up of their trainer in
it, about half a second. Without a config: an encoder of MiniLM's sizes with
random weights, and embedded sentences.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from codir_jax.benchmark import pytorch_step
from codir_jax.benchmark.turns import epochs, spread
from codir_jax.convert import save
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.data import dataset
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.evaluation.turns import in_turns
from codir_jax.models import sizes as sizes_lib
from codir_jax.predict import sentence_encoder
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config
from codir_jax.stage.assembled import Stage

DEFAULT_CONFIG = "configs/pair_supcon/train.py:demo,ranking"
BATCH_SIZE, RATE, SCALE = 32, 2e-5, 20.0
# Texts whose vectors are made in a turn.
NUM_ENCODED = 2048
OURS, THEIRS = "codir", "sentence-transformers"


def load_config(spec: str, overrides: Sequence[tuple[str, str]], batch_size: int = 0) -> ConfigDict:
    """The config of `spec`, with the settings that both sides share; without one the demo's at MiniLM's sizes.

    Raises:
      UserError: its rows are no triplets.
    """
    wanted = [("optimizer.learning_rate", str(RATE)), ("optimizer.clip_norm", "1.0"), ("optimizer.rules", "()")]
    wanted += [("optimizer.schedule", "constant"), ("objective.temperature", str(1 / SCALE))]
    if not spec:
        minilm = sizes_lib.named("minilm")
        for name in ("num_layers", "hidden_size", "num_heads", "intermediate_size"):
            wanted.append((f"student.{name}", str(getattr(minilm, name))))
        wanted.append(("data.demo_num_triplets", "2048"))
    wanted += [("data.batch_size", str(batch_size or BATCH_SIZE)), *overrides]
    config = stage_config.load(spec or DEFAULT_CONFIG, wanted)
    if config.task.name != "sentence_embedding" or config.data.layout != "triplets":
        raise UserError(
            f"--sections=pytorch_sentence_encoder trains on triplets, and --config={spec} has none; use "
            "configs/pair_supcon/train.py:own,ranking with --config.student.path and --config.data.train_path"
        )
    return config


def measure(config: ConfigDict, *, num_turns: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Epochs of both trainers, then vectors of `NUM_ENCODED` texts of both, after a turn that compiles.

    Returns:
      {"training": {"triplets_per_second": {arm: the median}, "ratio": {"median", "min", "max"}}, "encoding": the same
      of "texts_per_second", "largest_difference" of the vectors at the start, "num_turns"}; ratios are ours over
      theirs.

    Raises:
      UserError: PyTorch or sentence-transformers is not installed.
    """
    pytorch_step.import_torch()
    library = _import_library()
    stage = Stage.of(config, num_epochs=num_turns + 1)
    abstract = stage.abstract_state(live=False)
    state, frozen = stage.start(abstract, {})
    texts = _triplets(config)
    with tempfile.TemporaryDirectory() as folder:
        _write(stage, stage.whole(state.params)["student"], Path(folder))
        theirs, ours = library.SentenceTransformer(folder, device="cpu"), sentence_encoder.load(folder)
        some = list(dict.fromkeys(text for column in texts.values() for text in column))[:NUM_ENCODED]
        vectors = {OURS: ours.encode(some[:64]), THEIRS: theirs.encode(some[:64], show_progress_bar=False)}
        arms = {
            OURS: lambda: ours.encode(some),
            THEIRS: lambda: theirs.encode(some, batch_size=BATCH_SIZE, show_progress_bar=False),
        }
        say(f"vectors of {len(some):,} texts ...")
        encoding = _told(in_turns(arms, num_turns + 1, say), dict.fromkeys(arms, len(some)), "texts_per_second")
        step = stage.initial_state.step(abstract)
        arms = {
            OURS: epochs(stage, step, state, frozen, {}, num_turns + 1),
            THEIRS: _their_epochs(library, theirs, texts, config, Path(folder) / "trainer"),
        }
        say(f"epochs of {stage.feed.num_train:,} triplets ...")
        counts = {OURS: stage.feed.num_train, THEIRS: len(texts["anchor"])}
        training = _told(in_turns(arms, num_turns + 1, say), counts, "triplets_per_second")
    return {
        "training": training,
        "encoding": encoding,
        "largest_difference": float(np.abs(vectors[OURS] - vectors[THEIRS]).max()),
        "num_turns": num_turns,
    }


def _told(seconds: dict[str, list[float]], counts: dict[str, int], name: str) -> dict[str, Any]:
    rates = {arm: [counts[arm] / value for value in values[1:]] for arm, values in seconds.items()}
    return {
        name: {arm: statistics.median(values) for arm, values in rates.items()},
        "ratio": spread(rates[OURS], rates[THEIRS]),
    }


def _import_library():
    try:
        import sentence_transformers
    except ImportError as error:
        raise UserError(
            "a comparison with sentence-transformers needs it, with datasets and accelerate, which its trainer uses: "
            "pip install 'sentence-transformers[train]'"
        ) from error
    return sentence_transformers


def _triplets(config: ConfigDict) -> dict[str, list[str]]:
    """The columns of the train rows that have a contradiction."""
    rows = dataset.read(config.data).splits["train"]
    has_negative = rows.columns.get("has_negative", [True] * len(rows))
    columns = dict(zip(("anchor", "positive", "negative"), (rows.texts_a, *rows.apart), strict=True))
    return {
        name: [text for text, has in zip(column, has_negative, strict=True) if has] for name, column in columns.items()
    }


def _write(stage: Stage, params, folder: Path) -> None:
    """A folder that both sides load."""
    length = stage.config.data.max_length
    facts = SentenceFacts(pooling=stage.student.config.pooling, max_length=length)
    save.save_pretrained(folder, stage.student.config, params, head="embedding", sentence=facts)
    tokenizer_lib.save_tokenizer(stage.task.tokenizer, folder, length)


def _their_epochs(library, model, texts: dict[str, list[str]], config: ConfigDict, folder: Path) -> Callable[[], None]:
    """A function that trains an epoch with the library's trainer, as its documentation does it."""
    from datasets import Dataset
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    loss = MultipleNegativesRankingLoss(model, scale=SCALE)
    arguments = library.SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=config.data.batch_size,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_drop_last=True,
    )
    rows = Dataset.from_dict(texts)

    def epoch() -> None:
        library.SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows, loss=loss).train()

    return epoch
