"""A stage on a corpus: its chunks of text, its masked language models, and how they are judged."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from codir_jax.convert import huggingface
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.corpus import corpus as corpus_lib
from codir_jax.objectives import masked_lm
from codir_jax.objectives.contract import Setting
from codir_jax.objectives.masked_lm_evaluation import evaluate_batch
from codir_jax.processes import console, distributed
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import build
from codir_jax.stage import checks as preflight
from codir_jax.stage import models as partners
from codir_jax.stage import results as outcome
from codir_jax.stage import workdir as workdir_lib
from codir_jax.tasks.corpus_feed import CorpusFeed

METRICS = ("masked_lm_loss", "masked_accuracy")


class Pretraining:
    """What a run needs of its stage; `classification.Classification` has the same attributes and methods.

    Attributes:
      tokenizer: of the corpus. student, teacher: the models, the latter None where none is given.
      fingerprint: of the corpus. has_dev: whether there is something to judge by.
      metrics: names, the primary one first.
      feed: batches on the mesh, after `lay_out`.
    """

    metrics, has_dev = METRICS, True

    def __init__(self, config: ConfigDict):
        self.config = config
        self.tokenizer = build.make_tokenizer(config)
        head = partners.Head("masked_lm")
        self.teacher = partners.make_teacher(config, head) if config.teacher.path else None
        if self.teacher:
            _check_vocabulary(self.tokenizer, config.teacher.path, self.teacher)
        self.student = partners.make_student(config, head, self.teacher, self.tokenizer)
        if config.student.init == "pretrained":
            _check_vocabulary(self.tokenizer, config.student.path, self.student)
        # Tokenising may take hours: what can be refused without it is refused before.
        preflight.check_length(config, self.student)
        build.make_objective(config.objective, self.setting(1))
        self.corpus = read_corpus(config, self.tokenizer)
        self.fingerprint = self.corpus.fingerprint
        self._teacher_params: Any = None
        self._teacher_dev: dict[str, float] = {}

    def lay_out(self, mesh, table) -> None:
        """Makes the feed for a mesh."""
        self._layout = mesh, table
        self.feed = CorpusFeed(self.corpus, self.config.data, self.config.seed, rules.batch_sharding(mesh, table))

    def setting(self, num_steps: int) -> Setting:
        """What the method is made for."""
        return Setting(
            head="masked_lm",
            student=self.student.module,
            teacher=self.teacher.module if self.teacher else None,
            num_steps=num_steps,
            num_microbatches=self.config.train.num_microbatches,
        )

    def teach(self, setting: Setting, needs_cache: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """(entries of frozen: the teacher's weights on the devices; nothing joins the batches).

        A teacher that the method does not use is there for the evaluation: all arms of a comparison tell how near they
        came to it.

        Raises:
          UserError: it predicts held-out words no better than their frequencies do.
        """
        del needs_cache
        if setting.teacher is None:
            return {}, {}
        self._teacher_params = self.teacher.placed(*self._layout)
        self._teacher_dev = self._examine()
        return {} if self.config.objective.name in build.WITHOUT_TEACHER else {"teacher": self._teacher_params}, {}

    def evaluate(self, params: dict[str, Any], frozen: dict[str, Any]) -> dict[str, float]:
        """The student on held-out documents, and its distance to the teacher."""
        if self._teacher_params is not None:
            frozen = {**frozen, "teacher": self._teacher_params}
        scores = self.feed.means(self._evaluate, params, frozen)
        # The teacher's own never change: they are told once, by `teach`.
        changing = {name: value for name, value in scores.items() if not name.startswith("teacher_masked")}
        return {name: changing[name] for name in (*METRICS, *sorted(changing.keys() - set(METRICS)))}

    def score(self, scores: dict[str, float]) -> float:
        """Of the scores the one that the best model is chosen by; more is better."""
        return -scores[METRICS[0]]

    def save_best(self, workdir: Path, params) -> None:
        """Replaces `best/` by the student with the weights `params`."""
        outcome.save_best(workdir, self.student, params, self.tokenizer, head="masked_lm")

    def facts(self, workdir: Path) -> dict[str, Any]:
        """For `results.json`: what is known of corpus and best model."""
        return {
            "task": "corpus",
            "num_examples": {name: len(split) for name, split in self.corpus.splits.items()},
            "corpus": dataclasses.asdict(self.corpus.info),
            "teacher_dev": self._teacher_dev,
            "best_fingerprint": huggingface.load_pretrained(workdir / "best", head="masked_lm").fingerprint,
        }

    @functools.cached_property
    def _evaluate(self):
        return make_evaluation(self.config.objective, self.setting(1), self._layout)

    def _examine(self) -> dict[str, float]:
        """The teacher's own scores on held-out documents."""
        alone = Setting(head="masked_lm", student=self.teacher.module, teacher=None, num_steps=1)
        evaluate = make_evaluation(masked_lm.default_config(), alone, self._layout)
        scores = self.feed.means(evaluate, {"student": self._teacher_params}, {})
        console.say("teacher, held-out: " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        of_frequencies = self.feed.loss_of_frequencies()
        if scores["masked_lm_loss"] >= of_frequencies:
            told = (
                f"the teacher {self.config.teacher.path} loses {scores['masked_lm_loss']:.2f} nats a masked token on "
                f"held-out text, no better than the words' frequencies ({of_frequencies:.2f}), so there is nothing to "
                "distil"
            )
            if not self.config.teacher.allow_weak:
                raise UserError(
                    f"{told}; pre-train it first (configs/codir/pretrain_teacher.py), check its tokenizer, or set "
                    "--config.teacher.allow_weak=true"
                )
            console.say(f"warning: {told} (teacher.allow_weak=true)")
        return scores


def read_corpus(config: ConfigDict, tokenizer) -> corpus_lib.Corpus:
    """The corpus of the config, tokenised where it was not yet; several processes share the work."""
    workdir_lib.require_shared(corpus_lib.cache_root(config.data), "data.cache_dir")
    corpus = corpus_lib.load(
        config.data,
        tokenizer,
        process_index=distributed.process_id(),
        process_count=distributed.num_processes(),
        barrier=lambda _: distributed.barrier(),
        tell=console.say,
        progress=console.progress_bar,
    )
    info = corpus.info
    sizes = (
        f"{split} {info.num_documents[split]:,} documents, {info.num_tokens[split]:,} tokens in "
        f"{info.num_chunks[split]:,} chunks"
        for split in info.splits
    )
    console.say(f"corpus: {'; '.join(sizes)}")
    return corpus


def evaluate(config: ConfigDict, model: str, split: str) -> dict[str, float]:
    """The scores of a finished masked LM on the held-out documents of the config's corpus; with a teacher.path also its
    distance to that teacher.

    Raises:
      UserError: another split than "dev".
    """
    if split != "dev":
        raise UserError(f"--split={split}; a masked language model is judged on the held-out documents, --split=dev")
    of_model = config.copy_and_resolve_references()
    of_model.tokenizer_path = ""
    of_model.objective = masked_lm.default_config()
    of_model.student.update({"init": "pretrained", "path": model, "num_layers": 0})
    stage = Pretraining(of_model)
    layout = mesh_lib.make_mesh(config.mesh), mesh_lib.rules_of(config.mesh)
    stage.lay_out(*layout)
    stage.teach(stage.setting(1), needs_cache=False)
    return stage.evaluate({"student": stage.student.placed(*layout)}, {})


def make_evaluation(objective: ConfigDict, setting: Setting, layout):
    """A jitted (params, frozen, batch) -> metrics as (sum, count), on the mesh and by the table of `layout`."""

    def evaluate(params, frozen, batch):
        with rules.on_mesh(*layout):
            return evaluate_batch(objective, setting, params, frozen, batch)

    return jax.jit(evaluate)


def _check_vocabulary(tokenizer, path: str, model: partners.Model) -> None:
    """Refuses a model that was trained with another vocabulary than the tokenizer's.

    Raises:
      UserError: with both sizes, or the first token that differs.
    """
    if len(tokenizer) > model.config.vocab_size:
        raise UserError(
            f"the tokenizer has {len(tokenizer)} tokens and {path} only {model.config.vocab_size}; leave "
            "tokenizer_path empty to take the model's own"
        )
    folder = model.source.folder
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt", "vocab.json")):
        return
    own, given = tokenizer_lib.load_tokenizer(str(folder)).get_vocab(), tokenizer.get_vocab()
    if own != given:
        word = min(own.keys() ^ given.keys() or (w for w in own if own[w] != given[w]))
        raise UserError(
            f"the tokenizer is not the one of {path}: {word!r} is {given.get(word)} here and {own.get(word)} there; "
            "leave tokenizer_path empty to take the model's own"
        )
