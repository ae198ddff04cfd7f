"""What is measured: data, models, objective and optimizer of a config, put together as a run puts them."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.benchmark import synthetic
from codir_jax.data.batch import Dataset
from codir_jax.data.corpus import masking
from codir_jax.data.corpus.corpus import Corpus
from codir_jax.evaluation import cost
from codir_jax.models import sizes as sizes_lib
from codir_jax.models.heads import init_params
from codir_jax.models.transformer import TransformerConfig
from codir_jax.objectives import codir, distill
from codir_jax.objectives.contract import Objective, Setting
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import build
from codir_jax.stage import checks as preflight
from codir_jax.stage import config as stage_config
from codir_jax.stage import models as partners
from codir_jax.stage.initial_state import InitialState, shardings_of
from codir_jax.tasks.corpus_feed import CorpusFeed
from codir_jax.tasks.labelled_feed import Feed
from codir_jax.training import optimizer
from codir_jax.training.step import make_train_step

DEFAULT_CONFIG = "configs/codir/finetune_distill.py:demo"
_NUM_RANDOM_TEXTS = 8192  # about CoLA's train set


def load_config(
    spec: str, overrides: Sequence[tuple[str, str]], *, batch_size: int = 0, fixed_length: int = 0
) -> ConfigDict:
    """The config of `spec`; without one the demo's, with fewer texts. Zeros leave the config as it is."""
    wanted = []
    if not spec:
        wanted += [("data.demo_num_train", "2048"), ("data.demo_num_dev", "256"), ("data.batch_size", "32")]
    wanted += overrides
    if batch_size:
        wanted.append(("data.batch_size", str(batch_size)))
    if fixed_length:
        wanted += [("data.max_length", str(fixed_length))]
    config = config_lib.load(spec or DEFAULT_CONFIG, wanted)
    if config.objective.name == "finetune":
        raise UserError("the benchmark measures distillation, and objective.name is 'finetune'; choose another method")
    return config


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """The parts of a stage, before its first step.

    Attributes:
      teacher_name: of `models.sizes.names()`, or the path the teacher came from.
      data: tokenised splits. feed: its batches. outputs: what the heads compute for a text.
      num_steps: length of the run, for the schedules.
    """

    config: ConfigDict
    teacher_name: str
    data: Dataset | Corpus
    feed: Feed | CorpusFeed
    outputs: cost.Outputs
    teacher: partners.Model
    student: partners.Model
    mesh: Any
    rules: Any
    setting: Setting
    objective: Objective
    num_steps: int

    @property
    def num_shards(self) -> int:
        return rules.num_batch_shards(self.mesh, self.rules)

    @property
    def steps_per_epoch(self) -> int:
        return self.feed.steps_per_epoch

    @functools.cached_property
    def teacher_params(self):
        """The teacher's weights on the devices."""
        return self.teacher.placed(self.mesh, self.rules)

    @functools.cached_property
    def student_params(self):
        """The student's starting weights on the devices."""
        return self.student.placed(self.mesh, self.rules)

    def teacher_outputs(self) -> dict[str, np.ndarray]:
        """name -> [num_train, ...]: what a cached teacher puts into the batch, computed now over the train set."""
        objective, setting = self.config.objective, self.setting
        view = jax.jit(lambda params, batch: distill.teacher_view(objective, setting, params, batch))
        return self.feed.collect(view, self.teacher_params, "train")

    def train_step(self, *, live: bool):
        """(step function, abstract state, abstract frozen), all with their shardings; nothing is allocated.

        Args:
          live: the teacher runs in the step; else its outputs are in the batch and it is not in `frozen`.
        """
        abstract = self._start.abstract(without=() if live else ("teacher",))
        step = make_train_step(
            self.objective,
            self._tx,
            prng_impl=self.config.train.prng_impl,
            shardings=(*shardings_of(abstract), self.feed.sharding),
            layout=(self.mesh, self.rules),
        )
        return step, *abstract

    def initial_state(self, abstract_state, abstract_frozen, extra: Mapping[str, Any]):
        """(state, frozen) on the devices, for the shapes of `train_step`; `extra` is of `teacher_outputs`."""
        given = {"teacher": self.teacher_params} if "teacher" in abstract_frozen else {}
        return self._start.fill(
            (abstract_state, abstract_frozen), self.student.params, given | self._start.tables(extra)
        )

    @functools.cached_property
    def _start(self) -> InitialState:
        return InitialState(
            objective=self.objective,
            tx=self._tx,
            example=self.feed.example(),
            mesh=self.mesh,
            rules=self.rules,
            seed=self.config.seed,
            prng_impl=self.config.train.prng_impl,
        )

    @functools.cached_property
    def _tx(self):
        warmup = config_lib.duration_steps(
            self.config.optimizer, "warmup", steps_per_epoch=self.steps_per_epoch, num_steps=self.num_steps
        )
        schedule = optimizer.make_schedule(self.config.optimizer, self.num_steps, warmup, self.steps_per_epoch)
        return optimizer.make_optimizer(self.config.optimizer, schedule)


def make(
    config: ConfigDict,
    *,
    model: str | TransformerConfig = "",
    fixed_length: int = 0,
    epochs: int = 0,
    num_steps: int = 0,
    bank_rows: int = 0,
) -> Subject:
    """The subject of a config.

    Args:
      config: as `load_config` returns it; without a teacher.path the teacher is randomly started.
      model: of such a teacher, a name in `models.sizes.names()` ("" is minilm) or its sizes.
      fixed_length: random texts of that many tokens instead of the config's data.
      epochs, num_steps: length of the run, for the schedules; epochs go first.
      bank_rows: pretended number of training examples, at least the real one; only banks and label tables grow.

    Raises:
      UserError: before any device is used.
    """
    given = config.teacher.path
    if given and model:
        raise UserError(f"give a teacher of random weights by --model={model}, or a real one by teacher.path, not both")
    model = model or "minilm"
    if isinstance(model, str) and model not in sizes_lib.names():
        raise UserError(f"--model={model!r}; known: {', '.join(sizes_lib.names())}")
    checked = config.copy_and_resolve_references()
    checked.teacher.path = given or "random weights"
    stage_config.check(checked)
    tokenizer = None
    if given or not fixed_length:
        tokenizer = build.make_tokenizer(config)
    sizes = sizes_lib.named(model) if isinstance(model, str) else model
    if fixed_length:
        num_examples = config.data.num_train_examples or _NUM_RANDOM_TEXTS
        vocab, pad = (len(tokenizer), tokenizer.pad_token_id) if given else (sizes.vocab_size, sizes.pad_token_id)
        data = synthetic.dataset(num_examples, fixed_length, vocab, pad, config.seed)
    else:
        data = build.read_data(config, tokenizer)
        preflight.require_split(data, "train")
        if not given and len(tokenizer) > sizes.vocab_size:
            raise UserError(
                f"the tokenizer has {len(tokenizer)} tokens and --model={model} only {sizes.vocab_size}; "
                "choose another model"
            )
    head = partners.Head("classification", data.info.num_classes)
    teacher = partners.make_teacher(config, head) if given else _random_teacher(config, sizes, head)
    student = partners.make_student(config, head, teacher, tokenizer)
    if student.params is None:
        student = dataclasses.replace(student, params=_random_params(student.module, config.seed))
    preflight.check_length(config, student)
    mesh, table = mesh_lib.make_mesh(config.mesh), mesh_lib.rules_of(config.mesh)
    preflight.check_batch_sizes(config, rules.num_batch_shards(mesh, table), 1)
    feed = Feed(data, config.data, config.seed, rules.batch_sharding(mesh, table))
    length = epochs * feed.steps_per_epoch if epochs else num_steps
    microbatches = config.train.num_microbatches
    setting = build.make_setting(data, student, teacher, max(length, 1), microbatches)
    if bank_rows:
        setting = _with_bank_rows(setting, bank_rows)
    objective = build.make_objective(config.objective, setting)
    name = given or (model if isinstance(model, str) else f"{sizes.num_layers} x {sizes.hidden_size}")
    outputs = cost.Outputs(data.info.num_classes)
    return Subject(config, name, data, feed, outputs, teacher, student, mesh, table, setting, objective, max(length, 1))


def pretraining(like: Subject) -> Subject:
    """CoDIR at pre-training (preset "pretrain") with models, lengths, batches and devices of another subject.

    Masked language models of random weights on random chunks, masked as a corpus is. All else of its config stays.
    """
    config = stage_config.pretraining_config(codir.default_config("pretrain"))
    for section in ("seed", "student", "optimizer", "train", "mesh"):
        config[section] = like.config[section]
    config.teacher.dtype = like.config.teacher.dtype
    sizes = {name: like.config.data[name] for name in ("max_length", "batch_size", "eval_batch_size")}
    config.data.update({**sizes, "chunks_per_document": math.gcd(4, sizes["batch_size"])})
    head = partners.Head("masked_lm")
    teacher = _random_model(head.module(like.teacher.config, config.teacher.dtype), like.teacher.config, config.seed)
    module = head.module(like.student.config, config.student.dtype, config.student.remat)
    student = _random_model(module, like.student.config, config.seed)
    corpus = synthetic.corpus(
        like.feed.num_train,
        sizes["max_length"],
        like.student.config.vocab_size,
        like.data.pad_token_id,
        mask_rate=config.data.mask_rate,
        seed=config.seed,
    )
    setting = Setting(
        head=head.kind,
        student=student.module,
        teacher=teacher.module,
        num_steps=like.num_steps,
        num_microbatches=config.train.num_microbatches,
    )
    return dataclasses.replace(
        like,
        config=config,
        data=corpus,
        feed=CorpusFeed(corpus, config.data, config.seed, like.feed.sharding),
        outputs=cost.Outputs(num_predictions=masking.masked_slots(config.data), head=head.kind),
        teacher=teacher,
        student=student,
        setting=setting,
        objective=build.make_objective(config.objective, setting),
    )


def default_objective(name: str) -> ConfigDict:
    """The objective's own default config."""
    return build.objective_module(name).default_config()


def _random_teacher(config: ConfigDict, sizes: TransformerConfig, head: partners.Head) -> partners.Model:
    return _random_model(head.module(sizes, config.teacher.dtype), sizes, config.seed)


def _random_model(module, sizes: TransformerConfig, seed: int) -> partners.Model:
    return partners.Model(module, _random_params(module, seed), sizes, None)


def _random_params(module, seed: int):
    params = jax.jit(lambda: rules.unbox(init_params(module, jax.random.key(seed))))()
    return jax.tree.map(np.asarray, params)


def _with_bank_rows(setting: Setting, bank_rows: int) -> Setting:
    if bank_rows < setting.info.num_train:
        raise UserError(f"a bank of {bank_rows} rows is smaller than the {setting.info.num_train} train examples")
    return dataclasses.replace(
        setting,
        info=synthetic.info("random", bank_rows),
        labels=np.arange(bank_rows, dtype=np.int32) % synthetic.NUM_CLASSES,
        is_labelled=np.ones(bank_rows, bool),
        text_ids=np.arange(bank_rows, dtype=np.int32),
    )
