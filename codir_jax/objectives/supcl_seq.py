"""SupCL-Seq, stage 1: texts of one class lie together, several dropout views of each (Sedghamiz et al., EMNLP 2021).

    L = w_task * L_CE + w_contrast * L_con

Each text is encoded once for every rate of `dropout_rates`, with a mask of its own; rate p holds for embeddings,
attention probabilities, attention output and feed-forward output alike. With f the unit views of the global batch,
I all of them, A(i) = I without i, P(i) = those of A(i) of the class of i (the other views of its text among them):

    L_con = (tau / tau_base) mean_i -1/|P(i)| sum_{p in P(i)} log( exp(s_ip) / sum_{a in A(i)} exp(s_ia) ),
    s_ij = <f_i, f_j> / tau

Without labels (`supervised=False`, or a row without a label) P(i) are the other views of the text alone. An anchor
without a positive is left out of the mean, and counted. A text that equals another one of another class, or of none,
is neither positive nor negative of it. L_con never falls below its floor (tau / tau_base) mean_i log|P(i)|:
`excess_loss` is what lies above.

Stage 2, `linear_head`, trains the classifier on the frozen encoder; until then a linear probe judges the vectors.
With w_task > 0 the classifier is trained here on every view: cross entropy and contrast together (Gunel et al., 2021);
or, with w_contrast = 0, fine-tuning on several dropout views, the control that tells contrast from augmentation.

Of the released code, not repeated unless asked for by `released`: one more view than asked, at the model's own rate; a
rate that equals the model's is skipped, so that the one before stays (asked 0.0 0.1 0.2, it runs 0.1 0.0 0.0 0.2). Not
repeated at all: a mean over padding, and NaN where an anchor has no positive.
"""

import collections
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.losses import contrastive
from codir_jax.losses.task import task_loss
from codir_jax.models.apply import apply_model
from codir_jax.models.pooling import masked_mean
from codir_jax.models.products import product
from codir_jax.negatives.in_batch import score_matrix
from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.microbatches import run_student
from codir_jax.objectives.sums import masked_sum, mean
from codir_jax.objectives.texts import init_model
from codir_jax.processes import fields
from codir_jax.processes.fields import defaults, field
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import constrain, gather_batch

HEADS, ROLES = ("classification",), ("student",)
LEAST_BATCH = 2
OWN_TASK_LOSS = True
VIEWS = ("pooler", "mean")


FIELDS = {
    "name": field("supcl_seq", "the method, a file of codir_jax/objectives"),
    "supervised": field(True, "the positives are all views of the class; False: of the text only"),
    "dropout_rates": field((0.0, 0.1), "of the views, one pass each", each=field(0.0, "a rate", at_least=0, below=1)),
    # "pooler" is of the first token, and tanh; "mean" of the last layer over real tokens.
    "view": field("pooler", "vector of a text", words=VIEWS),
    "temperature": field(0.05, "tau", above=0, at_most=1e4),
    # 0 leaves the factor tau / tau_base out.
    "base_temperature": field(0.0, "tau_base", at_least=0, at_most=1e4),
    "contrastive_weight": field(1.0, "w_contrast, weight of the contrast", at_least=0, at_most=1e6),
    "task_weight": field(0.0, "w_task, weight of the cross entropy on every view", at_least=0, at_most=1e6),
    "mask_same_text": field(True, "an equal text of another class is no negative; ours"),
}


def default_config(preset: str = "paper") -> ConfigDict:
    """Fields of the method. `preset` is "paper" or "released"; they differ only in values."""
    config = ConfigDict(defaults(FIELDS))
    if preset == "released":
        # What the released code runs where 0.0 0.1 0.2 are asked for, as in its notebook.
        config.update({"dropout_rates": (0.1, 0.0, 0.0, 0.2), "base_temperature": 0.07, "mask_same_text": False})
    return config


def check(config: ConfigDict) -> None:
    """Refuses what in the fields cannot be.

    Raises:
      UserError: what was expected, what came.
    """
    fields.check(FIELDS, config, "objective")
    rates = tuple(config.dropout_rates)
    if not rates:
        raise UserError("objective.dropout_rates is empty; give one rate at least, of a view each")
    if not (config.contrastive_weight or config.task_weight):
        raise UserError("objective.contrastive_weight and task_weight are both 0: there is nothing to learn")
    if config.task_weight and config.view != "pooler":
        raise UserError("objective.task_weight trains the classifier, which reads objective.view='pooler'")
    if config.contrastive_weight and not config.supervised and len(rates) < 2:
        raise UserError(
            f"objective.dropout_rates={rates}: without labels the positives of a view are the other views of its text; "
            "give two rates or more"
        )


def probed_vectors(config: ConfigDict):
    """The view without dropout, which a linear probe judges while no classifier is trained."""
    if config.task_weight:
        return None
    return lambda model, params, batch: _view(model, params, batch, None, config.view)


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective of the whole method; see the module's docstring."""
    check(config)
    if setting.head.is_regression:
        raise UserError(
            "objective.name='supcl_seq' contrasts classes, and the labels are numbers (data.is_regression, or a set "
            "such as stsb); two texts have equal scores by chance only. Use objective.name='finetune'"
        )
    if setting.rows is not None:
        _check_classes(config, setting.rows)

    def init(rng, batch):
        return {"student": init_model(setting.student, rng, batch)}, {}, {}

    def loss(params, frozen, objective_state, batch, step: Step):
        del frozen
        student = params["student"]

        def run(part, rng):
            return views_of(config, setting.student, student, part, rng)

        views = run_student(setting, student, batch, step.rng, lambda output, _: output, run)
        total, metrics = 0.0, {}
        if config.task_weight:
            classifier = student["classifier"]
            logits = product(views, classifier["kernel"]) + classifier["bias"]
            values = jax.vmap(lambda x: task_loss(x, batch["labels"], False), in_axes=1, out_axes=1)(logits)
            metrics["task_loss"] = masked_sum(values.mean(1), batch["label_mask"])
            total += config.task_weight * mean(metrics["task_loss"])
        if config.contrastive_weight:
            found = contrast_terms(config, contrastive.unit_rows(views), batch)
            metrics |= found
            total += config.contrastive_weight * mean(found["contrastive_loss"])
        return total, (objective_state, metrics)

    return Objective(init, loss)


def _check_classes(config: ConfigDict, rows) -> None:
    """Refuses classes that a contrast cannot be made of."""
    if not config.supervised:
        return
    counts = collections.Counter(rows.labels[rows.is_labelled].tolist())
    if len(counts) < 2:
        raise UserError(f"the train set has {len(counts)} class with a label; a contrast by class needs two or more")
    alone = [label for label, count in counts.items() if count == 1]
    if len(alone) == len(counts):
        raise UserError(
            "every class has one train text, so no two texts belong together; set objective.supervised=False"
        )
    if alone and len(config.dropout_rates) == 1:
        raise UserError(
            f"class number {alone[0]} has one train text and objective.dropout_rates one view, so that nothing belongs "
            "to it; give more texts or two rates"
        )


def views_of(config: ConfigDict, model: Any, params: Any, batch, rng: jax.Array | None) -> jax.Array:
    """All views of every text, float32 [batch, N, hidden], not normalised; without an rng all without dropout.

    One pass for each rate, by a model with that rate and an rng of its own; one pass over the batch tiled N times where
    all rates are equal.
    """
    rates = tuple(config.dropout_rates)
    if len(set(rates)) == 1:
        tiled = {name: jnp.repeat(batch[name], len(rates), axis=0) for name in _INPUTS if name in batch}
        vectors = _view(with_rate(model, rates[0]), params, tiled, rng, config.view)
        return vectors.reshape(-1, len(rates), vectors.shape[-1])
    rngs = [None] * len(rates) if rng is None else jax.random.split(rng, len(rates))
    found = [_view(with_rate(model, p), params, batch, own, config.view) for p, own in zip(rates, rngs, strict=True)]
    return jnp.stack(found, axis=1)


_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "words")


def with_rate(model: Any, rate: float) -> Any:
    """The model with another dropout rate everywhere; the rate is no state, so nothing is to be set back."""
    sizes = dataclasses.replace(model.config, hidden_dropout=rate, attention_dropout=rate, classifier_dropout=rate)
    return model.clone(config=sizes)


def _view(model, params, batch, rng, view: str) -> jax.Array:
    output = apply_model(model, params, batch, rng, method="vectors")
    return output.vectors if view == "pooler" else masked_mean(output.hidden_states[-1], batch["attention_mask"])


def contrast_terms(config: ConfigDict, views: jax.Array, batch):
    """L_con as metrics: (sum, count) of the loss over anchors with a positive, and what is measured beside it.

    Each device has its rows' anchors and everybody's candidates.

    Args:
      config: of `default_config()`.
      views: unit float32 [batch, N, dim].
      batch: of `data.batch`.
    """
    num_rows, num_views, dim = views.shape
    is_real = batch["example_mask"] > 0
    classes = jnp.where(batch["label_mask"] > 0, batch["labels"], -1)
    all_classes, all_texts, all_real = (constrain(x) for x in (classes, batch["text_ids"], is_real))
    is_own_text = jnp.eye(num_rows, dtype=bool)
    is_same_class = is_own_text
    if config.supervised:
        is_same_class = is_own_text | ((classes[:, None] == all_classes) & (classes[:, None] >= 0))
    is_masked = jnp.zeros_like(is_own_text)
    if config.mask_same_text:
        is_masked = (batch["text_ids"][:, None] == all_texts) & ~is_same_class & all_real & is_real[:, None]

    def of_views(rows):
        """Rows [batch, batch] for every pair of views, [batch N, batch N]."""
        return jnp.repeat(jnp.repeat(rows, num_views, axis=0), num_views, axis=1)

    is_self = jnp.eye(num_rows * num_views, dtype=bool)
    is_candidate = constrain(of_views(is_real[:, None] & all_real & ~is_masked) & ~is_self, "batch")
    is_positive = of_views(is_same_class) & is_candidate
    cosines = score_matrix(views.reshape(-1, dim), gather_batch(views).reshape(-1, dim))
    losses = contrastive.supervised_contrast(cosines, is_positive, is_candidate, config.temperature)
    num_positives = is_positive.sum(1)
    scale = config.temperature / config.base_temperature if config.base_temperature else 1.0
    floor = jnp.log(jnp.maximum(num_positives, 1).astype(jnp.float32))

    is_anchor = jnp.repeat(is_real, num_views)
    has_positive = is_anchor & (num_positives > 0)
    measured = {
        "excess_loss": masked_sum(scale * (losses - floor), has_positive),
        "num_positives": masked_sum(num_positives, is_anchor),
        "num_negatives": masked_sum(is_candidate.sum(1) - num_positives, is_anchor),
        "num_masked": masked_sum(num_views * is_masked.sum(1), is_real),
        "left_out": masked_sum(num_positives == 0, is_anchor),
    }
    return {"contrastive_loss": masked_sum(scale * losses, has_positive), **jax.lax.stop_gradient(measured)}
