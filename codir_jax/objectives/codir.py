"""CoDIR: contrastive distillation on intermediate representations (Sun et al., EMNLP 2020).

    L = w_task * L_task + w_kd * L_KD + w_crd * L_CRD

L_CRD makes the student's pooled, projected hidden layers v_S pick out the teacher's view v_T of the same text among
negatives, and the other way round. Two presets of one implementation: "paper" (InfoNCE with the live pair as positive)
and "released" (NCE against stale bank rows, as in the published code, its defects repaired). Every term is a mean per
example, so that no weight depends on the batch size or the number of devices.
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from codir_jax.negatives import sampling
from codir_jax.objectives.contract import Objective, Setting, init_model, masked_sum, mean
from codir_jax.objectives.contrastive_term import SIDES, contrastive_term, init_projection, init_state, project
from codir_jax.objectives.distill import compute_views, matches, soft_terms, term_defaults
from codir_jax.objectives.schedules import check_schedule, scheduled

SOURCES = ("in_batch", "bank", "queue")


def default_config(preset: str = "paper") -> ConfigDict:
    """Fields of the method. `preset` is "paper" or "released"; the two differ only in values."""
    config = ConfigDict(
        {
            "name": "codir",
            **term_defaults(),
            "contrastive_loss": "info_nce",  # "info_nce" (paper) or "nce" (released code; needs source "bank")
            "contrastive_weight": 0.1,  # w_crd, on the mean over examples and anchors
            "contrastive_schedule": "constant",
            "contrastive_temperature": 0.07,  # tau
            "projection_dim": 128,  # size of v_S and v_T
            "layer_aggregation": "concat",  # "concat": one vector of all matched layers; "per_layer": one term a layer
            "standardize_layers": True,  # zero mean, unit variance per layer, so that no layer dominates; ours
            "teacher_projection": "trained",  # "trained", or "frozen" at its random start
            "anchors": "both",  # "student", "teacher" or "both"
            "positive": "live",  # "live" teacher view, or the example's stale "bank" row (released)
            "negatives": {
                "source": "in_batch+bank",  # any of in_batch (whole global batch), bank, queue, joined by +
                "num_negatives": 100,  # K, bank rows drawn for each example
                "label_aware": True,  # draw bank rows of other classes only
                "mask_same_label": True,  # also in batch and queue, an example of the same class is no negative
                "mask_same_text": True,  # an equal text is never a negative
                "mask_unvisited": True,  # bank rows still at their random start are no negatives; ours
                "momentum": 0.5,  # m of the bank: row <- normalise(m * row + (1 - m) * v)
                "queue_size": 4096,  # rows of the first-in-first-out queue
                "regression_bins": 5,  # a regression's "classes": quantile bins of the target; ours
            },
            "normaliser": "ema",  # of NCE: "first_batch" (released) or "ema"
            "normaliser_decay": 0.99,  # of the EMA (He et al. 2020)
        }
    )
    if preset == "released":
        config.update(
            {
                "layer_matches": "skip_last",
                "pooling": "first",
                "contrastive_loss": "nce",
                "contrastive_weight": 0.01,  # the released total divides by the batch: its weight was 0.003-0.03
                "standardize_layers": False,
                "positive": "bank",
                "normaliser": "first_batch",
            }
        )
        config.negatives.update({"source": "bank", "mask_same_text": False, "mask_unvisited": False})
    elif preset != "paper":
        raise ValueError(f"unknown preset {preset!r} of codir; known: paper, released")
    return config


def check(config: ConfigDict) -> None:
    """Refuses a config that contradicts itself.

    Raises:
      ValueError: what was expected, what came, what to do.
    """
    for name in ("task_schedule", "soft_target_schedule", "contrastive_schedule"):
        check_schedule(name, config[name])
    for name, known in (
        ("contrastive_loss", ("info_nce", "nce")),
        ("layer_aggregation", ("concat", "per_layer")),
        ("teacher_projection", ("trained", "frozen")),
        ("anchors", ("student", "teacher", "both")),
        ("positive", ("live", "bank")),
        ("normaliser", ("first_batch", "ema")),
    ):
        if config[name] not in known:
            raise ValueError(f"objective.{name}={config[name]!r}; known: {', '.join(known)}")
    sources = config.negatives.source.split("+")
    unknown = [name for name in sources if name not in SOURCES]
    if unknown:
        raise ValueError(f"objective.negatives.source has {unknown}; known: {', '.join(SOURCES)}, joined by +")
    if config.contrastive_loss == "nce" and sources != ["bank"]:
        raise ValueError("objective.contrastive_loss='nce' estimates its normaliser over the bank: use source='bank'")
    if config.positive == "bank" and "bank" not in sources:
        raise ValueError("objective.positive='bank' needs 'bank' among the sources of negatives")
    if config.contrastive_temperature <= 0:
        raise ValueError(f"objective.contrastive_temperature must be > 0, got {config.contrastive_temperature}")
    if "bank" in sources and config.negatives.num_negatives < 1:
        raise ValueError(f"objective.negatives.num_negatives must be >= 1, got {config.negatives.num_negatives}")
    if "queue" in sources and config.negatives.queue_size < 1:
        raise ValueError(f"objective.negatives.queue_size must be >= 1, got {config.negatives.queue_size}")


def class_table(config: ConfigDict, setting: Setting) -> np.ndarray:
    """int32 [num_train + 1]: class (regression: quantile bin) of each train row, -1 for unlabelled and padded rows."""
    table = np.full(setting.info.num_train + 1, -1, np.int32)
    labelled = np.asarray(setting.is_labelled, bool)
    if setting.info.is_regression:
        classes = sampling.bin_labels(setting.labels[labelled], config.negatives.regression_bins)
    else:
        classes = setting.labels[labelled]
    table[:-1][labelled] = classes
    return table


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective of the whole method; see the module's docstring."""
    check(config)
    pairs = matches(config, setting)
    groups = 1 if config.layer_aggregation == "concat" else len(pairs)
    classes = class_table(config, setting)
    options, num_train = config.negatives, setting.info.num_train
    uses_bank = "bank" in config.negatives.source
    if uses_bank:
        index = sampling.class_index(classes[:-1])
        smallest_pool = sampling.smallest_pool(index) if options.label_aware else num_train - 1
        replace = options.num_negatives >= smallest_pool  # as in the released code

    def draw(rng, frozen, batch):
        if not uses_bank:
            return None
        if options.label_aware:
            anchors = frozen["classes"][batch["example_ids"]]
            num, ids = options.num_negatives, batch["example_ids"]
            return sampling.sample_other_class(rng, frozen["index"], anchors, num, replace=replace, own_ids=ids)
        return sampling.sample_any(rng, num_train, batch["example_ids"], options.num_negatives, replace)

    def init(rng, batch):
        rngs = jax.random.split(rng, 5)
        params = {"student": init_model(setting.student, rngs[0], batch)}
        frozen = {
            "teacher": init_model(setting.teacher, rngs[1], batch),
            "classes": jnp.asarray(classes),
            "text_ids": jnp.asarray(setting.text_ids, jnp.int32),
        }
        if uses_bank:
            frozen["index"] = jax.tree.map(jnp.asarray, index)
        widths = {"student": setting.student.config.hidden_size, "teacher": setting.teacher.config.hidden_size}
        for side, side_rng in zip(SIDES, rngs[2:4], strict=True):
            owner = frozen if side == "teacher" and config.teacher_projection == "frozen" else params
            owner[f"projection_{side}"] = init_projection(side_rng, config, len(pairs), widths[side])
        return (
            params,
            frozen,
            {
                "step": jnp.zeros((), jnp.int32),
                **init_state(rngs[4], config, num_train, groups),
            },
        )

    def loss(params, frozen, objective_state, batch, rng):
        dropout_rng, negatives_rng = (None, jax.random.key(0)) if rng is None else jax.random.split(rng)
        views = compute_views(config, setting, params, frozen, batch, dropout_rng)
        progress = objective_state["step"] / setting.num_steps
        total, metrics = soft_terms(config, setting, views, batch, progress)
        projections = {**frozen, **params}
        features = {
            "student": project(projections["projection_student"], views.student_pooled, config),
            "teacher": project(projections["projection_teacher"], views.teacher_pooled, config),
        }
        losses, new_state, more = contrastive_term(
            config, features, objective_state, frozen, batch, draw(negatives_rng, frozen, batch)
        )
        weight = config.contrastive_weight * scheduled(config.contrastive_schedule, progress)
        total += weight * mean(masked_sum(losses, batch["example_mask"]))
        new_state["step"] = objective_state["step"] + 1
        return total, (new_state, {**metrics, **more})

    return Objective(init, loss)
