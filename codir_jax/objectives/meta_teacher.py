"""Meta-KD, step 1: one teacher for all domains, by weighted examples and with domains that are corrupted.

    L = mean_i t_i ( CE(logits_i, y_i) + g1 CE(domain logits_i, z_i) )

t_i is the column `example_weights`: how typical the example is (`codir weigh`). z_i is a corrupted domain: a wrong one
drawn at random ("wrong", paper) or the batch's domains in another order ("permuted", released). It is meant to make the
feature forget the domain; it is not adversarial, and a probe has to tell what it did. "reversal" is today's standard in
its place: the true domain, from a feature without E, through a gradient that is reversed and grows from 0 over the run,
as in DANN. Batches have the columns `domain_ids` and, where they are weighted, `example_weights`.

Sources: Pan et al., "Meta-KD: A Meta Knowledge Distillation Framework for Language Model Compression across Domains",
ACL 2021, and the released code (alibaba/EasyTransfer, scripts/metaKD). Ganin et al., "Domain-Adversarial Training of
Neural Networks", JMLR 2016 (reversal).
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from codir_jax.losses.domains import content_mean
from codir_jax.losses.task import task_loss
from codir_jax.objectives import domain_feature
from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.microbatches import run_student
from codir_jax.objectives.sums import masked_sum, mean
from codir_jax.objectives.texts import init_model
from codir_jax.processes import fields
from codir_jax.processes.fields import defaults, field
from codir_jax.processes.user_error import UserError

HEADS, ROLES = ("classification",), ("student",)
OWN_TASK_LOSS = True
CORRUPTIONS = ("wrong", "permuted", "reversal", "none")


FIELDS = {
    "name": field("meta_teacher", "the method, a file of codir_jax/objectives"),
    "is_weighted": field(True, "by the column example_weights; False: every example counts 1"),
    # "wrong" (another one), "permuted" (released), "reversal" (the true one, through a reversed gradient, of which
    # corruption_weight is the strength at the end), or "none": no domain term.
    "corruption": field("wrong", "the domain that the feature is to be taken for", words=CORRUPTIONS),
    # 0.2 is the default of the released code, 0.5 that of its script.
    "corruption_weight": field(0.5, "g1, weight of the domain term", at_least=0, at_most=1e6),
    "domain_dropout": field(0.1, "of the feature before the domain classifier", at_least=0, below=1),
}


def default_config(preset: str = "paper") -> ConfigDict:
    """Fields of the method. `preset` is "paper" or "released"."""
    if preset not in ("paper", "released"):
        raise UserError(f"preset {preset!r}; known: paper, released")
    config = ConfigDict(defaults(FIELDS))
    if preset == "released":
        config.corruption = "permuted"
    return config


def check(config: ConfigDict) -> None:
    """Refuses what cannot be.

    Raises:
      UserError: what was expected, what came.
    """
    fields.check(FIELDS, config, "objective")


def num_domains(setting: Setting, name: str) -> int:
    """Domains of the train set.

    Raises:
      UserError: there is no column of whole numbers from 0, or no usable weights.
    """
    columns = setting.rows.columns if setting.rows is not None else {}
    if "domain_ids" not in columns:
        raise UserError(
            f"objective.name={name!r} needs the domain of each text: set data.columns='domain_ids=COLUMN', or let "
            "`codir compress --recipe=meta_kd --domain_column=COLUMN` prepare the files"
        )
    domains = np.asarray(columns["domain_ids"])
    if domains.ndim != 1 or (domains < 0).any() or (domains != np.floor(domains)).any():
        raise UserError("the column domain_ids must hold names or whole numbers from 0")
    return int(domains.max()) + 1


def check_weights(setting: Setting) -> None:
    """Refuses a train set without weights, or with negative ones."""
    weights = setting.rows.columns.get("example_weights")
    if weights is None:
        raise UserError(
            "objective.is_weighted needs a weight of each text: `codir weigh` makes them; then set "
            "data.columns='domain_ids=domain_number,example_weights=weight', or objective.is_weighted=False"
        )
    if np.asarray(weights).min() < 0:
        raise UserError(f"example_weights must be >= 0, the smallest is {np.asarray(weights).min():g}")


def corrupted(domains: jax.Array, is_real: jax.Array, count: int, how: str, rng: jax.Array) -> jax.Array:
    """A domain for each row of the whole batch that is not to be believed: int32 [batch].

    Args:
      domains: int32 [batch], the true ones. is_real: bool [batch], False for padding. count: of all domains.
      how: "wrong": uniform over the other domains; "permuted": those of the real rows in another order.
      rng: of the step: the draw is the whole batch's, whatever devices have parts of it.
    """
    if how == "permuted":
        shuffled = jnp.argsort(jnp.where(is_real, jax.random.uniform(rng, is_real.shape), 2.0))  # real rows first
        return domains[shuffled[jnp.cumsum(is_real) - 1]]
    return (domains + jax.random.randint(rng, domains.shape, 1, max(count, 2))) % count


def reversed_gradient(x: jax.Array, progress: jax.Array | float) -> jax.Array:
    """x as it is; its gradient times -tanh(5 p), which is DANN's 1 - 2 / (1 + exp(-10 p)).

    Reversed in full from the first step, it ruins a model before its classifier of domains knows anything.

    Args:
      progress: p, finished share of the run.
    """
    strength = jnp.tanh(5.0 * jnp.asarray(progress, jnp.float32))
    return (1 + strength) * jax.lax.stop_gradient(x) - strength * x


def teacher_terms(logits, domain_logits, labels, targets, corruption_weight):
    """CE(logits, labels) + g1 CE(domain logits, targets) of each example, float32 [batch]."""
    return task_loss(logits, labels, False) + corruption_weight * task_loss(domain_logits, targets, False)


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective; its `domain` weights are kept beside the best model."""
    check(config)
    if setting.head.is_regression:
        raise UserError("objective.name='meta_teacher' is of classes, and the labels are a regression's")
    count = num_domains(setting, config.name)
    if config.is_weighted:
        check_weights(setting)
    if config.corruption != "none" and count < 2:
        raise UserError(f"objective.corruption={config.corruption!r} needs two domains, the train set has {count}")

    def init(rng, batch):
        student_rng, domain_rng = jax.random.split(rng)
        params = {"student": init_model(setting.student, student_rng, batch)}
        params[domain_feature.NAME] = domain_feature.init(domain_rng, count, setting.student.config.hidden_size)
        return params, {}, {}

    def read(output, part):
        return output.logits, content_mean(output.hidden_states[-1], part["attention_mask"])

    def loss(params, frozen, objective_state, batch, step: Step):
        del frozen
        logits, content = run_student(setting, params["student"], batch, step.rng, read)
        domains, labels = batch["domain_ids"].astype(jnp.int32), batch["labels"]
        weights = batch["example_weights"] if config.is_weighted else jnp.ones(len(labels), jnp.float32)
        mask = batch["label_mask"]
        values = task_loss(logits, labels, False)
        metrics = {"task_loss": masked_sum(values, mask)}
        if config.corruption != "none":
            own = params[domain_feature.NAME]
            draw, drop = (None, None) if step.rng is None else jax.random.split(jax.random.fold_in(step.rng, 1))
            if config.corruption == "reversal":
                content = reversed_gradient(content, step.progress)
            guesses, targets = _guesses(config, own, batch, content, count, draw, drop)
            values = teacher_terms(logits, guesses, labels, targets, config.corruption_weight)
            metrics["domain_loss"] = masked_sum(task_loss(guesses, targets, False), mask)
            metrics["domain_guess_rate"] = masked_sum(guesses.argmax(-1) == domains, mask)
        total = masked_sum(weights * values, mask)
        return mean(total), (objective_state, metrics)

    return Objective(init, loss, cost=no_cost, keeps=(domain_feature.NAME,))


def _guesses(config, own, batch, content, count, draw, drop):
    """(domain logits, their targets)."""
    domains, is_real = batch["domain_ids"].astype(jnp.int32), batch["example_mask"] > 0
    if config.corruption == "reversal":
        values, targets = jnp.tanh(content @ own["kernel"] + own["bias"]), domains
    else:
        values = jnp.tanh(domain_feature.feature(own, domains, content))
        targets = domains if draw is None else corrupted(domains, is_real, count, config.corruption, draw)
    if drop is not None and config.domain_dropout:
        keep = jax.random.bernoulli(drop, 1 - config.domain_dropout, values.shape)
        values = jnp.where(keep, values / (1 - config.domain_dropout), 0.0)
    return domain_feature.domain_logits(own, values), targets
