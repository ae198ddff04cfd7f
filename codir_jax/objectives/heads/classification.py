"""A classifier, of one class a text or of any number, or a regression: logits, one row an example.

Of any number of classes each is a question by itself, yes or no: its loss is a binary cross entropy, its soft target a
binary distribution, both in the mean over the classes.

A regression is trained on targets of mean 0 and deviation 1, (y - mean) / scale of the train set: of raw ones, such as
prices, a fresh head at 0 learns nothing but their size for most of a run. Everything outside of a step, a teacher's
answers and what is judged and saved, is in the units of the data:

    kernel, bias of a step        kernel / scale, (bias - mean) / scale
    kernel, bias of a folder      kernel * scale, bias * scale + mean
"""

import dataclasses

import jax.numpy as jnp

from codir_jax.losses import distillation
from codir_jax.losses.task import several_labels_loss, task_loss
from codir_jax.models.apply import apply_model
from codir_jax.objectives.contract import HeadTerms
from codir_jax.objectives.sums import masked_sum

# No field of an objective is of classifiers alone.
FIELDS = {}


@dataclasses.dataclass(frozen=True)
class Classification:
    """Attributes:
    num_labels: classes; 1 for a regression. is_regression: labels are float targets.
    mean, scale: of the targets of the train set.
    class_weights: how much an example of each class counts in the task loss; () for all alike. Of any number of classes
      a text, how much a yes counts beside a no.
    is_multi_label: a text has any number of classes.
    """

    num_labels: int
    is_regression: bool = False
    mean: float = 0.0
    scale: float = 1.0
    class_weights: tuple[float, ...] = ()
    is_multi_label: bool = False
    name: str = dataclasses.field(default="classification", init=False)
    kept: str = dataclasses.field(default="logits", init=False)

    def run(self, model, params, batch, rng=None, **more):
        """`models.outputs.ModelOutput`, logits float32 [batch, num_labels]; `more` as of `apply_model`."""
        return apply_model(model, params, batch, rng, **more)

    def view(self, values, params):
        """The logits."""
        del params
        return values

    def terms(self, config, batch, student, teacher=None, memory=None) -> HeadTerms:
        """Cross entropy (regression: squared error) over labelled rows, and the teacher's soft targets over all."""
        task = masked_sum(self._task_losses(student, self._standardised(batch["labels"])), batch["label_mask"])
        metrics = {"task_loss": task}
        if teacher is None:
            return HeadTerms(task, None, metrics)
        if self.is_regression:
            values = distillation.regression_loss(student[:, 0], self._standardised(teacher[:, 0]))
            soft = masked_sum(values, batch["example_mask"])
        else:
            several = self.is_multi_label
            loss = distillation.binary_soft_target_loss if several else distillation.soft_target_loss
            soft = masked_sum(loss(student, teacher, config.soft_target_temperature), batch["example_mask"])
            same = ((student > 0) == (teacher > 0)).all(-1) if several else student.argmax(-1) == teacher.argmax(-1)
            metrics["teacher_agreement"] = masked_sum(same, batch["example_mask"])
        return HeadTerms(task, soft, {**metrics, "soft_target_loss": soft})

    def _task_losses(self, logits, labels):
        """Of each row, float32 [batch]."""
        if self.is_multi_label:
            return several_labels_loss(logits, labels, jnp.asarray(self.class_weights or 1.0))
        losses = task_loss(logits, labels, self.is_regression)
        return losses * jnp.asarray(self.class_weights)[labels] if self.class_weights else losses

    def memory(self, config, width: int) -> dict:
        """Nothing."""
        return {}

    def check_distillation(self, config, rows) -> None:
        """Its fields hold for any rows."""

    def in_training(self, params):
        """Weights of a model as a step has them."""
        return self._with_classifier(params, lambda k, b: (k / self.scale, (b - self.mean) / self.scale))

    def as_served(self, params):
        """Weights of a step as they are judged and saved."""
        return self._with_classifier(params, lambda k, b: (k * self.scale, b * self.scale + self.mean))

    def _standardised(self, targets):
        return (targets - self.mean) / self.scale if self.is_regression else targets

    def _with_classifier(self, params, change):
        if not self.is_regression:
            return params
        kernel, bias = change(params["classifier"]["kernel"], params["classifier"]["bias"])
        return {**params, "classifier": {"kernel": kernel, "bias": bias}}

    def check_pair(self, student, teacher) -> None:
        """Any two classifiers of the same classes go together; the classes are compared by name elsewhere."""
