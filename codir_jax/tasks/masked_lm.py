"""Running text: masked language models, judged by the masked tokens of held-out documents."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.convert.labels import UNTOLD
from codir_jax.data import synthetic as random_texts
from codir_jax.data.batch import MASKED_LM_COLUMNS, empty
from codir_jax.data.corpus import corpus as corpus_lib
from codir_jax.data.corpus import demo_text, settings, shards, sources
from codir_jax.data.corpus.corpus import Corpus
from codir_jax.data.corpus.masking import masked_slots
from codir_jax.data.epoch_order import num_batches_per_epoch
from codir_jax.evaluation.metrics import Metric
from codir_jax.objectives import contract as objectives
from codir_jax.objectives import masked_lm
from codir_jax.objectives.contract import Setting
from codir_jax.objectives.heads.masked_lm import MaskedLM as Head
from codir_jax.processes.fields import Fields
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.tasks.contract import Examined, Outline
from codir_jax.tasks.corpus_feed import CorpusFeed
from codir_jax.tasks.masked_lm_evaluation import evaluate_batch
from codir_jax.tasks.together import together

TEACHER = ("masked model", "configs/codir/pretrain_teacher.py")
PLAIN_OBJECTIVE = "masked_lm"
METRICS = (Metric("masked_lm_loss", higher_is_better=False, unit="nats"), Metric("masked_accuracy"))
# Of English text and a vocabulary of 8,000 to 50,000 pieces.
BYTES_PER_TOKEN = 4.2


def data_fields() -> Fields:
    """The `data` section of a corpus."""
    return settings.FIELDS


def check(config: ConfigDict) -> None:
    """Refuses what cannot be, before any text is opened."""
    settings.check(config.data)
    objectives.require_head(config.objective.name, "masked_lm")
    if config.teacher.cache == "on":
        raise UserError(
            "teacher.cache='on': the masks of a corpus change with the epoch, so that the teacher's outputs cannot be "
            "kept; use 'auto' or 'off'"
        )


def fresh_tokenizer(config: ConfigDict):
    """A tokenizer trained on embedded text; None where one must be named, or trained by `codir tokenizer`."""
    return demo_text.fresh_tokenizer(config.data.sources)


def make(config: ConfigDict, tokenizer) -> "MaskedLanguageModel":
    """The task of a config; its corpus is tokenised by `open`."""
    return MaskedLanguageModel(config, tokenizer)


def synthetic(config: ConfigDict, num_examples: int, length: int, vocab_size: int, pad_token_id: int):
    """The task of random chunks of exactly `length` tokens, for measurements."""
    corpus = random_texts.corpus(
        num_examples, length, vocab_size, pad_token_id, mask_rate=config.data.mask_rate, seed=config.seed
    )
    return MaskedLanguageModel(config, corpus=corpus)


class MaskedLanguageModel:
    """A `tasks.contract.Task` of a corpus.

    Attributes:
      corpus: None before `open`, unless it was given. tokenizer: of the corpus, None for random tokens.
    """

    head, metrics, rows, has_fixed_inputs = Head(), METRICS, None, False
    splits, labels, served_length = ("train", "dev"), UNTOLD, None

    def __init__(self, config: ConfigDict, tokenizer=None, corpus: Corpus | None = None):
        self.config, self.tokenizer, self.corpus = config, tokenizer, corpus
        self._of_model = functools.cache(_evaluation_of_model)  # a model that is examined again is not compiled again

    @property
    def fingerprint(self) -> str:
        """Of the corpus."""
        return self.corpus.fingerprint if self.corpus else ""

    @property
    def typical_length(self) -> int:
        """Tokens of a full chunk."""
        return self.config.data.max_length

    def is_judged_once(self, split: str) -> bool:
        """There is no split but the two that training sees."""
        del split
        return False

    def require_split(self, split: str) -> None:
        """Refuses every split but the held-out documents."""
        if split != "dev":
            raise UserError(
                f"--split={split}; a masked language model is judged on the held-out documents, --split=dev"
            )

    def open(self) -> None:
        """Tokenises the corpus, where that was not done before; several processes share the work."""
        self.corpus = corpus_lib.load(self.config.data, self.tokenizer, together())

    def feed(self, sharding) -> CorpusFeed:
        """Its batches."""
        return CorpusFeed(self.corpus, self.config.data, self.config.seed, sharding)

    def check_checkpoint(self, source, path: str) -> None:
        """A masked LM has no classes; its vocabulary is compared for every task."""

    def lacks_head(self) -> tuple[str, str]:
        """What an encoder alone lacks, and the config that trains it."""
        return "masked-LM head", f"{TEACHER[1]} --config.student.init=pretrained --config.student.num_layers=0"

    def examine(self, feed: CorpusFeed, module, params, layout, split: str = "dev") -> Examined:
        """Loss and accuracy on held-out documents; the reference is the weights on the devices."""
        self.require_split(split)
        return Examined(feed.means(self._of_model(module, layout), {"student": params}, {}), params)

    def weakness(self, scores: Mapping[str, float], feed: CorpusFeed) -> str:
        """No better than the frequencies of words."""
        of_frequencies = feed.loss_of_frequencies()
        if scores["masked_lm_loss"] < of_frequencies:
            return ""
        return (
            f"loses {scores['masked_lm_loss']:.2f} nats a masked token on held-out text, no better than the words' "
            f"frequencies ({of_frequencies:.2f})"
        )

    def judge(self, feed: CorpusFeed, setting: Setting, objective, reference, layout) -> Callable[..., dict]:
        """Scores on held-out documents; the reference is a teacher's weights on the devices."""
        taught = {} if reference is None else {"teacher": reference}
        if reference is None:
            setting = dataclasses.replace(setting, teacher=None)
        evaluate = make_evaluation(objective, setting, layout)
        names = [metric.name for metric in METRICS]

        def judge(params, frozen) -> dict[str, float]:
            scores = feed.means(evaluate, params, {**frozen, **taught})
            # The teacher's own never change: they are told once, when it is examined.
            changing = {name: value for name, value in scores.items() if not name.startswith("teacher_masked")}
            return {name: changing[name] for name in (*names, *sorted(changing.keys() - set(names)))}

        return judge

    def describe(self) -> str:
        """One line: documents, tokens and chunks of each split."""
        info = self.corpus.info
        sizes = (
            f"{split} {info.num_documents[split]:,} documents, {info.num_tokens[split]:,} tokens in "
            f"{info.num_chunks[split]:,} chunks"
            for split in info.splits
        )
        return f"corpus: {'; '.join(sizes)}"

    def facts(self) -> dict[str, Any]:
        """Sizes and facts of the corpus."""
        return {
            "task": self.corpus.info.name,
            "num_examples": {name: len(split) for name, split in self.corpus.splits.items()},
            "corpus": dataclasses.asdict(self.corpus.info),
        }


def _evaluation_of_model(module, layout):
    """`make_evaluation` of a model by itself."""
    return make_evaluation(masked_lm.default_config(), Setting(head=Head(), student=module), layout)


def make_evaluation(objective: ConfigDict, setting: Setting, layout):
    """A jitted (params, frozen, batch) -> metrics as (sum, count), on the mesh and by the table of `layout`."""

    def evaluate(params, frozen, batch):
        with rules.on_mesh(*layout):
            return evaluate_batch(objective, setting, params, frozen, batch)

    return jax.jit(evaluate)


def outline(config: ConfigDict, num_examples: int, length: int, text_tokenizer, platform: str) -> Outline:
    """The chunks of a corpus: as given, or from the bytes of its sources, of which no text is read."""
    del text_tokenizer, platform
    options = config.data
    length, num_chunks = length or options.max_length, num_examples
    told = "as given"
    if not num_chunks:
        found = sources.units(sources.find(options.sources, options.tfds_data_dir))
        num_bytes = sum(unit.num_bytes for unit in found)
        num_chunks = max(round(num_bytes / BYTES_PER_TOKEN / (length - shards.NUM_SPECIAL)), 1)
        told = f"from {num_bytes / 1e6:,.1f} MB of text at {BYTES_PER_TOKEN} bytes a token"
    return Outline(
        head=Head(),
        rows=None,
        num_train=num_chunks,
        num_table_rows=num_chunks,
        lengths=np.asarray([length]),
        length_buckets=(length,),
        shares=(1.0,),
        steps_per_epoch=num_batches_per_epoch(num_chunks, options.batch_size),
        num_predictions=masked_slots(options),
        example_batch=empty(MASKED_LM_COLUMNS, 1, length=1, slots=1),
        host_bytes=0.0,  # tokens stay on disk, and the index is mapped from there
        has_fixed_inputs=False,
        told=f"{num_chunks:,} chunks of {length} tokens, {told}",
    )
