"""CoDIR: contrastive distillation on intermediate representations (Sun et al., EMNLP 2020).

    L = w_task * L_task + w_kd * L_KD + w_crd * L_CRD

L_CRD makes the student's pooled, projected hidden layers v_S pick out the teacher's view v_T of the same text among
negatives, and the other way round. Negatives come from the global batch, a bank or queue of earlier features, and the
teacher cache: the teacher never changes, so its kept pooled states under today's projection are never stale. By default
one draw of K rows serves the whole batch, with each example's false negatives masked: of two equal classes that halves
the usable ones, so K is 512 where a draw of other classes for each example took 100.

Presets of one implementation: "paper" (InfoNCE with the live pair as positive) and "released" (NCE against stale
bank rows, as in the published code, its defects repaired) at fine-tuning, "pretrain" for a masked LM. Every term is a
mean per example, or per masked token of a masked LM, so that no weight depends on the batch size or the number of
devices.

At pre-training both models see the same masked text. A corpus has no labels, and too many rows for a table of them on
the devices, so negatives come from the global batch, where the neighbouring rows of a document are hard ones, and from
the queue.
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from codir_jax.losses import contrastive
from codir_jax.negatives import neighbours, sampling
from codir_jax.objectives.contract import Objective, Setting, init_model, masked_sum, mean
from codir_jax.objectives.contrastive_term import (
    SIDES,
    contrastive_term,
    init_projection,
    init_state,
    layer_vectors,
    project,
)
from codir_jax.objectives.distill import compute_views, matches, soft_terms, term_defaults
from codir_jax.objectives.head_terms import require_one_vocabulary
from codir_jax.objectives.schedules import check_schedule, scheduled
from codir_jax.processes.user_error import UserError

SOURCES = ("in_batch", "bank", "queue", "teacher_cache")
PRETRAINING_SOURCES = ("in_batch", "queue")


def default_config(preset: str = "paper") -> ConfigDict:
    """Fields of the method. `preset` is "paper", "released" or "pretrain"; they differ only in values."""
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
            # Both projections start from one draw, where the two models have one width; ours. From two draws (released)
            # the term first turns the student towards a random map of its teacher.
            "equal_start": False,
            "anchors": "both",  # "student", "teacher" or "both"
            "positive": "live",  # "live" teacher view, or the example's stale "bank" row (released)
            "negatives": {
                # Joined by +: in_batch (the whole global batch), bank (stale rows of both sides), queue, teacher_cache
                # (kept teacher states under today's projection, for the student's anchor; needs a teacher cache).
                "source": "in_batch+bank",
                "num_negatives": 512,  # K, rows drawn from the bank and from the teacher cache
                "shared": True,  # one draw for the whole batch, false negatives masked; else K rows an example
                "label_aware": True,  # rows of other classes only
                "num_hard": 0,  # of the teacher cache: nearest neighbours of each example among the negatives
                "num_neighbours": 16,  # nearest rows from which the hard ones are drawn
                # A neighbour of a larger cosine is a near-duplicate: at 0.98 a perfect student prefers its own view
                # by odds of exp((1 - 0.98) / 0.07) = 1.33 only, so the term would mostly push equal texts apart.
                "hard_similarity_ceiling": 0.98,
                "mask_same_label": True,  # also in batch and queue, an example of the same class is no negative
                "mask_same_text": True,  # an equal text is never a negative
                "mask_same_document": False,  # at pre-training: nor is a row of the same document, which is a hard one
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
        config.negatives.update(
            {
                "source": "bank",
                "num_negatives": 100,
                "shared": False,
                "mask_same_text": False,
                "mask_unvisited": False,
            }
        )
    elif preset == "pretrain":
        # Neither the paper's text nor the released pre-training code (masked LM and soft targets only) gives weights to
        # the three terms there. These are the fine-tuning's: beta = 0.5 and T = 2 of the released GLUE runs, w_crd as
        # above.
        config.equal_start = True
        config.negatives.update({"source": "in_batch+queue", "label_aware": False, "mask_same_label": False})
    elif preset != "paper":
        raise UserError(f"unknown preset {preset!r} of codir; known: paper, released, pretrain")
    return config


def check(config: ConfigDict) -> None:
    """Refuses a config that contradicts itself.

    Raises:
      UserError: what was expected, what came, what to do.
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
            raise UserError(f"objective.{name}={config[name]!r}; known: {', '.join(known)}")
    if config.pooling == "none":
        raise UserError("objective.pooling='none': the contrastive term compares one vector a text; use mean or first")
    sources = config.negatives.source.split("+")
    unknown = [name for name in sources if name not in SOURCES]
    if unknown:
        raise UserError(f"objective.negatives.source has {unknown}; known: {', '.join(SOURCES)}, joined by +")
    if config.contrastive_loss == "nce" and sources != ["bank"]:
        raise UserError("objective.contrastive_loss='nce' estimates its normaliser over the bank: use source='bank'")
    if config.positive == "bank" and "bank" not in sources:
        raise UserError("objective.positive='bank' needs 'bank' among the sources of negatives")
    if config.contrastive_temperature <= 0:
        raise UserError(f"objective.contrastive_temperature must be > 0, got {config.contrastive_temperature}")
    _check_negatives(config, sources)


def _check_negatives(config: ConfigDict, sources: list[str]) -> None:
    """The part of `check` about numbers and sides of the negatives."""
    options = config.negatives
    if "bank" in sources and options.num_negatives < 1:
        raise UserError(f"objective.negatives.num_negatives must be >= 1, got {options.num_negatives}")
    if "queue" in sources and options.queue_size < 1:
        raise UserError(f"objective.negatives.queue_size must be >= 1, got {options.queue_size}")
    if config.contrastive_loss == "nce" and options.shared:
        raise UserError("objective.contrastive_loss='nce' counts K noise rows an example: set negatives.shared=False")
    if options.num_hard < 0 or options.num_hard > options.num_neighbours:
        raise UserError(
            f"objective.negatives.num_hard must be in 0..num_neighbours ({options.num_neighbours}), "
            f"got {options.num_hard}"
        )
    if not 0 < options.hard_similarity_ceiling <= 1:
        raise UserError(
            f"objective.negatives.hard_similarity_ceiling must be in (0, 1], got {options.hard_similarity_ceiling}"
        )
    if "teacher_cache" not in sources:
        if options.num_hard:
            raise UserError("objective.negatives.num_hard needs 'teacher_cache' among the sources of negatives")
        return
    if options.num_negatives < 0 or options.num_negatives + options.num_hard < 1:
        raise UserError(
            f"objective.negatives: num_negatives {options.num_negatives} and num_hard {options.num_hard} leave nothing "
            "to take from the teacher cache; raise one of them"
        )
    if config.anchors != "student" and sources == ["teacher_cache"]:
        raise UserError(
            f"objective.anchors={config.anchors!r}: the teacher cache has no student rows for the teacher's anchor; "
            "use negatives.source='in_batch+teacher_cache', or anchors='student'"
        )


def _check_head(config: ConfigDict, setting: Setting) -> None:
    """Refuses negatives that the setting has no data for."""
    if setting.head == "classification":
        if config.negatives.mask_same_document:
            raise UserError("objective.negatives.mask_same_document is for pre-training: only a corpus has documents")
        return
    require_one_vocabulary(setting)
    refused = [name for name in config.negatives.source.split("+") if name not in PRETRAINING_SOURCES]
    if refused:
        raise UserError(
            f"objective.negatives.source={config.negatives.source!r}: {' and '.join(refused)} would keep a row for "
            "each row of the corpus; at pre-training use 'in_batch+queue', as codir.default_config('pretrain') does"
        )


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
    _check_head(config, setting)
    pairs = matches(config, setting)
    groups = 1 if config.layer_aggregation == "concat" else len(pairs)
    is_pretraining = setting.head == "masked_lm"
    classes = None if is_pretraining else class_table(config, setting)
    options, num_train = config.negatives, 0 if is_pretraining else setting.info.num_train
    uses_bank, uses_cache = (name in options.source for name in ("bank", "teacher_cache"))
    draws = uses_bank or uses_cache
    index = sampling.class_index(classes[:-1]) if draws and options.label_aware else None
    smallest_pool = num_train - 1 if index is None else sampling.smallest_pool(index)

    def draw(rng, frozen, batch):
        """int32 [K], or [batch, K] where not shared: rows of the bank or of the teacher cache."""
        num, ids = options.num_negatives, batch["example_ids"]
        if options.shared:
            return sampling.sample_pool(rng, num_train, num)
        replace = num >= smallest_pool  # as in the released code
        if options.label_aware:
            anchors = frozen["classes"][ids]
            return sampling.sample_other_class(rng, frozen["index"], anchors, num, replace=replace, own_ids=ids)
        return sampling.sample_any(rng, num_train, ids, num, replace)

    def draw_pool(rng, projection, frozen, batch):
        """Rows of the teacher cache and the batch's hard negatives, under the projection as it is now."""
        random_rng, hard_rng = jax.random.split(jax.random.fold_in(rng, 1))  # apart from the bank's draw
        parts = [draw(random_rng, frozen, batch)] if options.num_negatives else []
        if options.num_hard:
            own = jnp.take(frozen["neighbours"], batch["example_ids"], axis=0, mode="fill", fill_value=-1)
            hard = sampling.sample_neighbours(hard_rng, own, options.num_hard)
            parts.append(hard.reshape(-1) if options.shared else hard)  # everybody's neighbours serve everybody
        ids = jnp.concatenate(parts, axis=-1)
        pooled = frozen["teacher_pooled"][jnp.maximum(ids, 0)]
        rows = project(projection, pooled.reshape(-1, *pooled.shape[-2:]), config)
        return {"ids": ids, "features": rows.reshape(*ids.shape, *rows.shape[1:])}

    def init(rng, batch):
        rngs = jax.random.split(rng, 5)
        params = {"student": init_model(setting.student, rngs[0], batch)}
        frozen = {"teacher": init_model(setting.teacher, rngs[1], batch)}
        if classes is not None:
            frozen |= {"classes": jnp.asarray(classes), "text_ids": jnp.asarray(setting.text_ids, jnp.int32)}
        if index is not None and not options.shared:
            frozen["index"] = jax.tree.map(jnp.asarray, index)
        if uses_cache:  # stand-ins, like the random teacher: see `tables`
            frozen["teacher_pooled"] = jnp.zeros((num_train, len(pairs), setting.teacher.config.hidden_size))
        if options.num_hard:
            frozen["neighbours"] = jnp.full((num_train, options.num_neighbours), -1, jnp.int32)
        widths = {"student": setting.student.config.hidden_size, "teacher": setting.teacher.config.hidden_size}
        is_equal = config.equal_start and widths["student"] == widths["teacher"]
        for side, side_rng in zip(SIDES, (rngs[2], rngs[2] if is_equal else rngs[3]), strict=True):
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
        bank_ids = draw(negatives_rng, frozen, batch) if uses_bank else None
        pool = draw_pool(negatives_rng, projections["projection_teacher"], frozen, batch) if uses_cache else None
        losses, new_state, more = contrastive_term(config, features, objective_state, frozen, batch, bank_ids, pool)
        weight = config.contrastive_weight * scheduled(config.contrastive_schedule, progress)
        total += weight * mean(masked_sum(losses, batch["example_mask"]))
        new_state["step"] = objective_state["step"] + 1
        return total, (new_state, {**metrics, **more})

    def tables(teacher_pooled, split):
        made = {"teacher_pooled": teacher_pooled}
        if options.num_hard:
            vectors = jax.jit(lambda x: contrastive.unit_rows(layer_vectors(x, config).reshape(num_train, -1)))
            made["neighbours"] = neighbours.nearest(
                vectors(teacher_pooled),
                jnp.asarray(classes[:-1]),
                jnp.asarray(setting.text_ids, jnp.int32),
                num_neighbours=options.num_neighbours,
                similarity_ceiling=options.hard_similarity_ceiling,
                mask_same_label=options.mask_same_label or options.label_aware,
                mask_same_text=options.mask_same_text,
                split=split,
            )
        return made

    return Objective(init, loss, tables if uses_cache else None)
