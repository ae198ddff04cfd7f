"""A classifier or a regression: logits, one row an example."""

import dataclasses

from codir_jax.losses import distillation
from codir_jax.losses.task import task_loss
from codir_jax.models.apply import apply_model
from codir_jax.objectives.contract import HeadTerms, masked_sum


def default_config() -> dict:
    """No field of an objective is of classifiers alone."""
    return {}


@dataclasses.dataclass(frozen=True)
class Classification:
    """Attributes:
    num_labels: classes; 1 for a regression. is_regression: labels are float targets.
    """

    num_labels: int
    is_regression: bool = False
    name: str = dataclasses.field(default="classification", init=False)
    kept: str = dataclasses.field(default="logits", init=False)

    def run(self, model, params, batch, rng=None):
        """`models.outputs.ModelOutput`, logits float32 [batch, num_labels]."""
        return apply_model(model, params, batch, rng)

    def view(self, values, params):
        """The logits."""
        del params
        return values

    def terms(self, config, batch, student, teacher=None, memory=None) -> HeadTerms:
        """Cross entropy (regression: squared error) over labelled rows, and the teacher's soft targets over all."""
        task = masked_sum(task_loss(student, batch["labels"], self.is_regression), batch["label_mask"])
        metrics = {"task_loss": task}
        if teacher is None:
            return HeadTerms(task, None, metrics)
        if self.is_regression:
            soft = masked_sum(distillation.regression_loss(student[:, 0], teacher[:, 0]), batch["example_mask"])
        else:
            values = distillation.soft_target_loss(student, teacher, config.soft_target_temperature)
            soft = masked_sum(values, batch["example_mask"])
            same = student.argmax(-1) == teacher.argmax(-1)
            metrics["teacher_agreement"] = masked_sum(same, batch["example_mask"])
        return HeadTerms(task, soft, {**metrics, "soft_target_loss": soft})

    def memory(self, config, width: int) -> dict:
        """Nothing."""
        return {}

    def check_distillation(self, config, rows) -> None:
        """Its fields hold for any rows."""

    def check_pair(self, student, teacher) -> None:
        """Any two classifiers of the same classes go together; the classes are compared by name elsewhere."""
