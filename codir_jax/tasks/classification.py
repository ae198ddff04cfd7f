"""Labelled texts: a class, several or a regression target for a text or a pair, judged by metrics on dev."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.convert.labels import Labels
from codir_jax.data import class_weights, dataset, length_buckets, pipeline, settings
from codir_jax.data import synthetic as random_texts
from codir_jax.data.sets import contract as sets
from codir_jax.data.splits import Dataset, RawSplit
from codir_jax.evaluation import metrics as metrics_lib
from codir_jax.evaluation import probe, runner, several_labels
from codir_jax.evaluation.metrics import Metric
from codir_jax.objectives import contract as objectives
from codir_jax.objectives.contract import Setting, TrainRows
from codir_jax.objectives.heads.classification import Classification as Head
from codir_jax.processes.fields import Fields
from codir_jax.processes.user_error import UserError
from codir_jax.tasks.contract import Examined
from codir_jax.tasks.labelled_feed import LabelledFeed
from codir_jax.tasks.labelled_outline import data_of, outline
from codir_jax.tasks.together import together

TEACHER = ("fine-tuned model", "configs/codir/finetune_teacher.py")
PLAIN_OBJECTIVE = "finetune"
__all__ = ["PLAIN_OBJECTIVE", "TEACHER", "check", "data_fields", "fresh_tokenizer", "make", "outline", "synthetic"]


def data_fields() -> Fields:
    """The `data` section: what every labelled set reads, and the fields of the sets themselves."""
    return settings.fields()


def check(config: ConfigDict) -> None:
    """Refuses what cannot be, before any file is opened."""
    objectives.require_head(config.objective.name, "classification")
    sets.require_task(config.data.name, "classification")
    if getattr(objectives.objective_module(config.objective.name), "OWN_TASK_LOSS", False):
        has_own = f"objective.name={config.objective.name!r} has a task loss of its own, which"
        if config.data.is_multi_label:
            raise UserError(f"data.is_multi_label (--multi_label): {has_own} is of one class a text; use 'codir'")
        if config.data.class_weights:
            told = f"data.class_weights={config.data.class_weights!r}: {has_own} knows no weights; leave them out"
            raise UserError(told)
    settings.check(config.data)


def fresh_tokenizer(config: ConfigDict):
    """The tokenizer that an embedded data set brings; None where one must be named."""
    return sets.fresh_tokenizer(config.data)


def make(config: ConfigDict, tokenizer) -> "Classification":
    """The task of a config; its data are read, checked in full and tokenised."""
    return Classification(config, read_data(config, tokenizer), tokenizer)


def read_data(config: ConfigDict, tokenizer) -> Dataset:
    """The tokenised data set that the config names, checked in full before it is returned."""
    return dataset.load(data_of(config), tokenizer, seed=config.seed, together=together())


def synthetic(config: ConfigDict, num_examples: int, length: int, vocab_size: int, pad_token_id: int):
    """The task of random texts of exactly `length` tokens, for measurements."""
    data = random_texts.dataset(num_examples, length, vocab_size, pad_token_id, config.seed)
    return Classification(config, data)


class Classification:
    """A `tasks.contract.Task` of a tokenised dataset.

    Attributes:
      data: splits. tokenizer: that they were tokenised with, None for random texts.
    """

    has_fixed_inputs = True

    def __init__(self, config: ConfigDict, data: Dataset, tokenizer=None):
        info = data.info
        self.config, self.data, self.tokenizer = config, data, tokenizer
        self.head = Head(
            info.num_classes, info.is_regression, *_mean_and_scale(data), self._class_weights(), info.is_multi_label
        )
        self.metrics = tuple(Metric(name) for name in info.metrics)
        self.splits, self.fingerprint = tuple(data.splits), data.fingerprint
        self.labels = Labels(info.label_names or None, info.is_regression, info.is_multi_label, info.is_pair)
        self.served_length = config.data.max_length
        self._forward = functools.cache(runner.make_forward)

    @property
    def rows(self) -> TrainRows:
        """The train set row by row."""
        require_split(self.data, "train")
        train = self.data.splits["train"]
        info = self.data.info
        kind = {"is_regression": info.is_regression, "is_multi_label": info.is_multi_label}
        return TrainRows(train.labels, train.is_labelled, train.text_ids, columns=train.columns, **kind)

    @property
    def typical_length(self) -> int:
        """Tokens of the dev text of median length."""
        lengths = self.data.splits["dev" if "dev" in self.splits else self.splits[0]].lengths
        return int(sorted(lengths)[len(lengths) // 2])

    def is_judged_once(self, split: str) -> bool:
        """Whether models are compared on it at the end only: it has labels, and no model was chosen by it."""
        return split not in ("train", "dev") and bool(self.data.splits[split].is_labelled.all())

    def require_split(self, split: str) -> None:
        """Refuses a split that is not there, or that has rows without a label."""
        require_split(self.data, split)
        if not self.data.splits[split].is_labelled.all():
            raise UserError(
                f"split {split!r} of {self.data.info.name} has unlabelled rows; `codir predict` needs no labels"
            )

    def open(self) -> None:
        """Nothing is left to read."""

    def read_rows(self) -> dict[str, RawSplit]:
        """The labelled rows of each split as they stand in the files, in its order; read anew."""
        return dataset.read_rows(self.config.data, self.data.info.label_names, seed=self.config.seed)

    def feed(self, sharding) -> LabelledFeed:
        """Its batches."""
        return LabelledFeed(self.data, self.config.data, self.config.seed, sharding, self.config.train)

    def check_checkpoint(self, source, path: str) -> None:
        """Refuses a model of other classes, of the same in another order, or of pairs where these are single texts."""
        check_label_names(source, self.data.info, path)
        kinds = ("single texts", "pairs of texts")
        if source.labels.is_pair not in (None, self.data.info.is_pair):
            raise UserError(
                f"model {path} answers {kinds[source.labels.is_pair]}, data {self.data.info.name} has "
                f"{kinds[self.data.info.is_pair]}; set data.text_pair_column, or fine-tune the model on this data"
            )

    def lacks_head(self) -> tuple[str, str]:
        """What a model without a fitting head lacks, and the config that trains one."""
        info = self.data.info
        argument = sets.config_argument(self.config.data.name)
        return f"head for the {info.num_classes} classes of {argument}", f"{TEACHER[1]}:{argument}"

    def examine(self, feed: LabelledFeed, module, params, layout, split: str = "dev") -> Examined:
        """Metrics on a split; the reference is the logits, float32 [n, classes]."""
        del layout
        logits = feed.collect(self._forward(module), params, split)
        return Examined(self._score(logits, split), logits)

    def scores_of(self, split: str, answers: Callable[..., np.ndarray]) -> dict[str, float]:
        """Metrics of answers that are made elsewhere: (input_ids, attention_mask, token_type_ids) -> logits."""
        examples = self.data.splits[split]
        logits = np.zeros((len(examples), self.head.num_labels), np.float32)
        batches = pipeline.eval_batches(
            examples,
            batch_size=min(32, len(examples)),
            length_buckets=length_buckets.ladder(self.served_length),
            pad_token_id=self.data.pad_token_id,
        )
        for batch in batches:
            ids = batch["example_ids"]
            real = ids < len(examples)
            inputs = (batch[name] for name in ("input_ids", "attention_mask", "token_type_ids"))
            logits[ids[real]] = np.asarray(answers(*inputs))[real]
        return self._score(logits, split)

    def weakness(self, scores: Mapping[str, float], feed: LabelledFeed) -> str:
        """No better than a constant answer: the squared error of the mean, or the accuracy of the majority class.

        Of several classes a text the average precision, which no threshold decides.
        """
        del feed
        if self.data.info.is_multi_label:
            share = several_labels.mean_share(self.data.splits["dev"].labels)
            if scores["average_precision"] > share:
                return ""
            return (
                f"has an average precision of {scores['average_precision']:.3f}, no better than one answer for all "
                f"texts ({share:.3f})"
            )
        if self.data.info.is_regression:
            if scores["r2"] > 0:
                return ""
            return (
                f"is no better than always answering the mean: R2 {scores['r2']:.3f}, at a correlation of "
                f"{scores['pearson']:.3f}; are its answers in the units of the targets?"
            )
        accuracy, share = scores["accuracy"], metrics_lib.majority_share(self.data.splits["dev"].labels)
        if accuracy > share:
            return ""
        return (
            f"is right on {accuracy:.1%} of the examples, no better than always answering the majority class "
            f"({share:.1%})"
        )

    def judge(self, feed: LabelledFeed, setting: Setting, objective, reference, layout) -> Callable[..., dict]:
        """Metrics on dev and, with a teacher's logits as reference, the distance to them.

        Where the objective trains no classifier, metrics of a linear probe on its vectors, fitted on train rows.
        """
        vectors_of = objectives.probed_vectors(objective)
        if vectors_of is not None:
            return self._probe(feed, functools.partial(vectors_of, setting.student))

        def judge(params, frozen) -> dict[str, float]:
            del frozen
            scores, logits = self.examine(feed, setting.student, params["student"], layout)
            if reference is not None:
                info = self.data.info
                scores |= runner.distance_to_teacher(logits, reference, info.is_regression, info.is_multi_label)
            return scores

        return judge

    def _probe(self, feed: LabelledFeed, vectors_of: Callable) -> Callable[..., dict]:
        """A function (params, frozen) -> metrics on dev of a linear classifier of vectors_of(params, batch)."""
        if self.data.info.is_regression:
            raise UserError("a linear probe is of classes, and the labels are a regression's")
        if self.data.info.is_multi_label:
            raise UserError("a linear probe is of one class a text, and these have several (data.is_multi_label)")
        forward = jax.jit(vectors_of)
        train, dev = self.data.splits["train"], self.data.splits["dev"]
        rows = probe.draw_rows(train.labels, train.is_labelled, self.config.seed)

        def judge(params, frozen) -> dict[str, float]:
            del frozen
            known = feed.collect_rows(forward, params["student"], "train", rows)
            predictions = probe.predict(known, train.labels[rows], feed.collect(forward, params["student"], "dev"))
            return metrics_lib.compute(self.data.info.metrics, dev.labels, predictions)

        return judge

    def describe(self) -> str:
        """One line: sizes, classes, truncation."""
        info = self.data.info
        sizes = ", ".join(f"{name} {len(split)}" for name, split in self.data.splits.items())
        kind = "regression" if info.is_regression else f"{info.num_classes} classes {list(info.label_names)}"
        if info.is_multi_label:
            kind += self._labels_a_text()
        text = f"data {info.name}: {sizes}; {kind}"
        if unlabelled := info.num_train - info.num_labelled:
            text += f"; {unlabelled} of train unlabelled"
        if self.config.data.unlabelled_path and objectives.needs_labels(self.config.objective.name):
            text += f"; texts without labels left out, which teach {self.config.objective.name} nothing"
        return f"{text}; {info.truncation}"

    def facts(self) -> dict[str, Any]:
        """Name and sizes of the data."""
        return {
            "task": self.data.info.name,
            "num_examples": {name: len(split) for name, split in self.data.splits.items()},
            "num_truncated": self.data.info.num_truncated,
        }

    def _labels_a_text(self) -> str:
        """How many classes the labelled texts have, in words."""
        split = next((split for split in ("train", "dev") if split in self.data.splits), self.splits[0])
        examples = self.data.splits[split]
        counts = np.asarray(examples.labels)[np.asarray(examples.is_labelled)].sum(axis=-1)
        if not len(counts):
            return ", any number a text"
        told = f", {counts.mean():.2f} of them a text of {split} in the mean, {(counts == 0).sum():,} texts with none"
        return told + "; no text has two: is it of one class a text (without --multi_label)?" * int(counts.max() < 2)

    def _class_weights(self) -> tuple[float, ...]:
        setting, info = self.config.data.class_weights, self.data.info
        if setting and info.is_regression:
            raise UserError(f"data.class_weights={setting!r} is of classes, and the labels are a regression's")
        if not setting or not info.num_labelled:
            return ()
        labels = self.data.splits["train"].labels[: int(info.num_labelled)]
        if info.is_multi_label:
            return class_weights.of_yes(setting, info.label_names, np.asarray(labels, np.float64))
        return class_weights.of_classes(setting, info.label_names, np.asarray(labels, np.int64))

    def _score(self, logits: np.ndarray, split: str) -> dict[str, float]:
        info = self.data.info
        # What a teacher's weakness is told by is measured with what the task is judged by.
        told_by = "r2" if info.is_regression else "average_precision" if info.is_multi_label else "accuracy"
        names = dict.fromkeys((*info.metrics, told_by))
        return runner.score(logits, self.data.splits[split].labels, tuple(names), info.is_regression)


def _mean_and_scale(data: Dataset) -> tuple[float, float]:
    """Mean and standard deviation of a regression's train targets; (0, 1) where there are none to tell."""
    if not data.info.is_regression or not data.info.num_labelled:
        return 0.0, 1.0
    targets = np.asarray(data.splits["train"].labels[: int(data.info.num_labelled)], np.float64)
    return float(targets.mean()), float(targets.std()) or 1.0


def require_split(data: Dataset, name: str) -> None:
    """Refuses data without the split, naming those it has."""
    if name not in data.splits:
        raise UserError(f"data {data.info.name} has no {name} split; it has: {', '.join(data.splits)}")


def has_classes(source, info) -> bool:
    """Whether a checkpoint's classes are the data's, in its order, as far as both have names for them."""
    names = source.labels.names
    return not (names and info.label_names) or tuple(names) == tuple(info.label_names)


def check_label_names(source, info, path: str) -> None:
    """Refuses a model whose classes have the same names in another order, or other names, or are answered otherwise."""
    is_multi_label = source.labels.is_multi_label
    if is_multi_label != info.is_multi_label:
        kinds = ("one class a text", "any number of classes a text")
        raise UserError(
            f"model {path} answers {kinds[is_multi_label]}, data {info.name} has {kinds[info.is_multi_label]} "
            "(data.is_multi_label, --multi_label); set it as the model has it, or fine-tune the model on this data"
        )
    if not has_classes(source, info):
        raise UserError(
            f"model {path} has classes {list(source.labels.names)}, data {info.name} has {list(info.label_names)}; "
            "give data.label_names in the model's order, or fine-tune the model on this data"
        )
