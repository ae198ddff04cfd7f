"""Sentences for an encoder: rows of one, two or three texts, each encoded by itself; judged by scored pairs."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.convert.labels import UNTOLD
from codir_jax.data import dataset, settings
from codir_jax.data.sets import contract as sets
from codir_jax.data.splits import Dataset, Examples
from codir_jax.evaluation import metrics as metrics_lib
from codir_jax.evaluation.metrics import Metric
from codir_jax.losses.contrastive import unit_rows
from codir_jax.objectives import contract as objectives
from codir_jax.objectives.contract import Setting, TrainRows
from codir_jax.objectives.heads.embedding import Embedding as Head
from codir_jax.processes.fields import Fields
from codir_jax.processes.user_error import UserError
from codir_jax.tasks.contract import Examined
from codir_jax.tasks.labelled_feed import LabelledFeed

TEACHER = ("sentence encoder", "configs/pair_supcon/train.py")
PLAIN_OBJECTIVE = "pair_supcon"
METRICS = ("spearman", "pearson")


def data_fields() -> Fields:
    """The `data` section: that of labelled texts, by its embedded pairs."""
    fields = settings.fields()
    return fields | {"name": fields["name"]._replace(default="demo_pairs")}


def check(config: ConfigDict) -> None:
    """Refuses what cannot be, before any file is opened."""
    objectives.require_head(config.objective.name, "embedding")
    sets.require_task(config.data.name, "sentence_embedding")
    settings.check(config.data)


def fresh_tokenizer(config: ConfigDict):
    """The tokenizer that an embedded data set brings; None where one must be named."""
    return sets.fresh_tokenizer(config.data)


def make(config: ConfigDict, tokenizer) -> "SentenceEmbedding":
    """The task of a config; its data are read, checked in full and tokenised."""
    return SentenceEmbedding(config, read_data(config, tokenizer), tokenizer)


def read_data(config: ConfigDict, tokenizer) -> Dataset:
    """The train split of the set and, of two texts a row with a float score, the splits that judge.

    Raises:
      UserError: bad rows, with file and line.
    """
    train = dataset.load(config.data, tokenizer, seed=config.seed)
    scored = sets.find(config.data.name).scored(config.data)
    if not scored:
        return train
    judged = dataset.tokenize_dataset(
        config.data.name,
        scored,
        label_names=(),
        is_regression=True,
        metrics=METRICS,
        tokenizer=tokenizer,
        max_length=config.data.max_length,
    )
    info = dataclasses.replace(
        train.info,
        splits=(*train.info.splits, *judged.info.splits),
        num_truncated=train.info.num_truncated | judged.info.num_truncated,
    )
    fingerprint = hashlib.sha256((train.fingerprint + judged.fingerprint).encode()).hexdigest()
    return Dataset(info, train.splits | judged.splits, train.pad_token_id, fingerprint)


class SentenceEmbedding:
    """A `tasks.contract.Task` of sentences.

    Attributes:
      data: splits; train in the layout of the config, the others pairs with a score. tokenizer: that made their tokens.
    """

    has_fixed_inputs, served_length = True, None

    def __init__(self, config: ConfigDict, data: Dataset, tokenizer=None):
        self.config, self.data, self.tokenizer = config, data, tokenizer
        self.head = Head()
        self.metrics = tuple(Metric(name) for name in METRICS)
        self.splits, self.fingerprint, self.labels = tuple(data.splits), data.fingerprint, UNTOLD
        self._cosines = functools.cache(_make_cosines)

    @property
    def rows(self) -> TrainRows:
        """The train set row by row; labels are those of pairs."""
        train = self.data.splits["train"]
        return TrainRows(train.labels, train.is_labelled, train.text_ids, False)

    @property
    def typical_length(self) -> int:
        """Tokens of the train row of median length."""
        lengths = self.data.splits["train"].lengths
        return int(sorted(lengths)[len(lengths) // 2])

    def is_judged_once(self, split: str) -> bool:
        """Whether encoders are compared on it at the end only."""
        return split not in ("train", "dev")

    def require_split(self, split: str) -> None:
        """Refuses a split that is not there, and train, whose pairs have no score."""
        if split not in self.splits or split == "train":
            known = ", ".join(name for name in self.splits if name != "train") or "none; set data.dev_path"
            raise UserError(f"data {self.data.info.name} has no scored split {split!r}; it has: {known}")

    def open(self) -> None:
        """Nothing is left to read."""

    def feed(self, sharding) -> LabelledFeed:
        """Its batches."""
        return LabelledFeed(self.data, self.config.data, self.config.seed, sharding, self.config.train)

    def check_checkpoint(self, source, path: str) -> None:
        """Any encoder makes vectors."""

    def lacks_head(self) -> tuple[str, str]:
        """What a model lacks that was not trained for it, and the config that trains it."""
        return "trained sentence vectors", TEACHER[1]

    def examine(self, feed: LabelledFeed, module, params, layout, split: str = "dev") -> Examined:
        """Correlation of the cosines of the pairs with their scores; the reference is the cosines, float32 [n]."""
        del layout
        cosines = feed.collect(self._cosines(module), params, split)
        return Examined(metrics_lib.compute(METRICS, self.data.splits[split].labels, cosines), cosines)

    def weakness(self, scores: Mapping[str, float], feed: LabelledFeed) -> str:
        """No better than a constant."""
        del feed
        rank = scores["spearman"]
        return "" if rank > 0 else f"ranks pairs by {rank:.3f} (Spearman), no better than a constant"

    def judge(self, feed: LabelledFeed, setting: Setting, objective, reference, layout) -> Callable[..., dict]:
        """Metrics on dev and, with a teacher's cosines as reference, how far the student's are from them."""
        del objective

        def judge(params, frozen) -> dict[str, float]:
            del frozen
            scores, cosines = self.examine(feed, setting.student, params["student"], layout)
            if reference is not None:
                scores["teacher_cosine_error"] = float(np.abs(cosines - reference).mean())
            return scores

        return judge

    def describe(self) -> str:
        """One line: sizes, what a row is, texts that occur twice, truncation."""
        info, train = self.data.info, self.data.splits["train"]
        sizes = ", ".join(f"{name} {len(split)}" for name, split in self.data.splits.items())
        kind = {1: "sentences", 2: "pairs", 3: "triplets"}[info.texts_per_row]
        text = f"data {info.name}: {sizes}; train rows are {kind}"
        if num_labelled := int(train.is_labelled.sum()):
            num_entailed = int(train.labels[np.asarray(train.is_labelled)].sum())
            text += f" ({num_entailed} entailed, {num_labelled - num_entailed} contradicted)"
        if "has_negative" in train.columns:
            text += f" ({int(train.columns['has_negative'].sum())} with a contradiction)"
        text_ids = np.asarray(train.text_ids)
        if repeated := text_ids.size - len(np.unique(text_ids)):
            text += f"; {repeated} of {text_ids.size} texts occur again in train"
        if "dev" in self.splits and (shared := _num_shared(train, self.data.splits["dev"])):
            text += f"; warning: {shared} of the dev pairs have a text of train"
        return f"{text}; {info.truncation}"

    def facts(self) -> dict[str, Any]:
        """Name and sizes of the data."""
        return {
            "task": self.data.info.name,
            "num_examples": {name: len(split) for name, split in self.data.splits.items()},
            "num_truncated": self.data.info.num_truncated,
            "texts_per_row": self.data.info.texts_per_row,
        }


def _make_cosines(module) -> Callable:
    """A jitted function (params, batch of pairs) -> cosine of the two texts, float32 [batch]."""
    head = Head()

    def cosines(params, batch):
        vectors = unit_rows(head.run(module, params, batch).vectors)
        return (vectors[:, 0] * vectors[:, 1]).sum(-1)

    return jax.jit(cosines)


def _num_shared(train: Examples, judged: Examples) -> int:
    """Rows of `judged` that have a text of `train`, token by token; 0 where train is on disk, which is not searched."""
    if not isinstance(train, Examples):
        return 0

    def texts(split):
        bounds = zip(split.offsets[:-1], split.offsets[1:], strict=True)
        return [split.tokens[start:end].tobytes() for start, end in bounds]

    known, found = set(texts(train)), texts(judged)
    per_row = judged.texts_per_row
    return sum(any(text in known for text in found[i : i + per_row]) for i in range(0, len(found), per_row))
