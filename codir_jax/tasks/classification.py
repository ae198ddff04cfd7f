"""A stage on a labelled task: its texts, its classifiers, and how they are judged on dev."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax.convert import huggingface
from codir_jax.evaluation import runner
from codir_jax.objectives.contract import Setting
from codir_jax.processes import console
from codir_jax.sharding import rules
from codir_jax.stage import build
from codir_jax.stage import checks as preflight
from codir_jax.stage import models as partners
from codir_jax.stage import results as outcome
from codir_jax.stage.teacher import Teacher
from codir_jax.tasks.labelled_feed import Feed


class Classification:
    """What a run needs of its stage; `pretraining.Pretraining` has the same attributes and methods.

    Attributes:
      tokenizer: of the texts. student, teacher: the models, the latter None where none is given.
      fingerprint: of the data. has_dev: whether there is something to judge by.
      metrics: names, the primary one first.
      feed: batches on the mesh, after `lay_out`.
    """

    def __init__(self, config: ConfigDict):
        self.config = config
        self.tokenizer = build.make_tokenizer(config)
        self.data = build.read_data(config, self.tokenizer)
        info = self.data.info
        preflight.require_split(self.data, "train")
        console.say(preflight.describe(self.data))
        head = partners.Head("classification", info.num_classes)
        self.teacher = partners.make_teacher(config, head) if config.teacher.path else None
        if self.teacher:
            partners.check_label_names(self.teacher.source, info, config.teacher.path)
        self.student = partners.make_student(config, head, self.teacher, self.tokenizer)
        preflight.check_length(config, self.student)
        self.fingerprint, self.metrics, self.has_dev = self.data.fingerprint, info.metrics, "dev" in self.data.splits
        self._taught: Teacher | None = None
        self._forward = runner.make_forward(self.student.module)

    def lay_out(self, mesh, table) -> None:
        """Makes the feed for a mesh."""
        self._layout = mesh, table
        self.feed = Feed(self.data, self.config.data, self.config.seed, rules.batch_sharding(mesh, table))

    def setting(self, num_steps: int) -> Setting:
        """What the method is made for."""
        return build.make_setting(self.data, self.student, self.teacher, num_steps, self.config.train.num_microbatches)

    def teach(self, setting: Setting, needs_cache: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """(entries of frozen: the teacher's weights on the devices where it runs live; what joins the batches).

        Raises:
          UserError: the teacher knows no more than the majority class.
        """
        if setting.teacher is None or self.config.objective.name in build.WITHOUT_TEACHER:
            return {}, {}
        self._taught = Teacher(self.config, self.teacher, setting, self.feed, *self._layout)
        self._taught.examine()
        extra = self._taught.train_outputs(self.feed.steps_per_epoch, needs_cache)
        return {} if self._taught.params is None else {"teacher": self._taught.params}, extra

    def evaluate(self, params: dict[str, Any], frozen: dict[str, Any]) -> dict[str, float]:
        """The scores of the student on dev, and its distance to the teacher."""
        del frozen
        logits = self.feed.collect(self._forward, params["student"], "dev")
        info = self.data.info
        scores = runner.score(logits, self.data.splits["dev"].labels, info.metrics, info.is_regression)
        if self._taught:
            scores |= runner.distance_to_teacher(logits, self._taught.dev_logits, info.is_regression)
        return scores

    def score(self, scores: dict[str, float]) -> float:
        """Of the scores the one that the best model is chosen by; more is better."""
        return scores[self.metrics[0]]

    def save_best(self, workdir: Path, params) -> None:
        """Replaces `best/` by the student with the weights `params`."""
        info = self.data.info
        labels = {"label_names": info.label_names or None, "is_regression": info.is_regression}
        outcome.save_best(workdir, self.student, params, self.tokenizer, head="classification", **labels)

    def facts(self, workdir: Path) -> dict[str, Any]:
        """For `results.json`: what is known of task, data and the best model."""
        info = self.data.info
        best = huggingface.load_pretrained(workdir / "best", num_labels=info.num_classes)
        return {
            "task": info.name,
            "num_examples": {name: len(split) for name, split in self.data.splits.items()},
            "num_truncated": info.num_truncated,
            "teacher_dev": self._taught.dev_scores if self._taught else {},
            "best_fingerprint": best.fingerprint,
        }
