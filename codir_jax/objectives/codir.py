"""CoDIR: contrastive distillation on intermediate representations (Sun et al., EMNLP 2020).

    L = w_task * L_task + w_kd * L_KD + w_crd * L_CRD

L_CRD makes the student's pooled, projected hidden layers v_S pick out the teacher's view v_T of the same text among
negatives, and the other way round. Negatives come from the global batch, a bank or queue of earlier features, and the
teacher cache: the teacher never changes, so its kept pooled states under today's projection are never stale. By default
one draw of K rows serves the whole batch, with each example's false negatives masked: of two equal classes that halves
the usable ones, so K is 512 where a draw of other classes for each example took 100.

Presets of one implementation: "paper" (InfoNCE with the live pair as positive) and "released" (NCE against stale
bank rows, as in the published code, its defects repaired) at fine-tuning, "pretrain" for a masked LM, "encoder" for
sentence vectors. Every term is a mean per example, or per masked token of a masked LM, so that no weight depends on the
batch size or the number of devices.

At pre-training both models see the same masked text. A corpus has no labels, and no table of its rows is made, so
negatives come from the global batch, where the neighbouring rows of a document are hard ones, and from
the queue.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from codir_jax.losses import contrastive
from codir_jax.negatives import neighbours, row_tables, sampling
from codir_jax.negatives.row_tables import RowTable
from codir_jax.objectives.codir_settings import FIELDS, check, default_config, needs_cache
from codir_jax.objectives.contract import (
    Cost,
    Features,
    Objective,
    Setting,
    Step,
    StepSize,
    TrainRows,
    init_model,
    masked_sum,
    mean,
)
from codir_jax.objectives.contrastive_term import (
    SIDES,
    contrastive_term,
    init_projection,
    init_state,
    layer_vectors,
    project,
)
from codir_jax.objectives.distill import compute_views, init_memory, kept_view, matches, soft_terms
from codir_jax.objectives.schedules import scheduled
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import placement

# Those that keep no row for each row of the train set.
ROWLESS_SOURCES = ("in_batch", "queue")
HEADS, ROLES = ("classification", "masked_lm", "embedding"), ("student", "teacher")
# The preset that fits a head, where it is not the first one.
PRESETS = {"masked_lm": "pretrain", "embedding": "encoder"}
__all__ = ["FIELDS", "HEADS", "PRESETS", "ROLES", "check", "default_config", "make", "needs_cache"]


def _check_data(config: ConfigDict, setting: Setting) -> None:
    """Refuses negatives that the setting has no data for."""
    if setting.rows is not None:
        if config.negatives.mask_same_document:
            raise UserError("objective.negatives.mask_same_document is for pre-training: only a corpus has documents")
        return
    refused = [name for name in config.negatives.source.split("+") if name not in ROWLESS_SOURCES]
    if refused:
        raise UserError(
            f"objective.negatives.source={config.negatives.source!r}: {' and '.join(refused)} would keep a row for "
            "each row of the corpus; at pre-training use 'in_batch+queue', as codir.default_config('pretrain') does"
        )


def classes_of(config: ConfigDict, rows: TrainRows):
    """int32 [num_train]: class (regression: quantile bin) of each train row, -1 for unlabelled ones.

    Classes are read a slice at a time; the bins of a regression follow from all targets, and are an array.
    """
    if not rows.is_regression:
        return _Classes(rows)
    labels, is_labelled = np.asarray(rows.labels[:]), np.asarray(rows.is_labelled[:], bool)
    classes = np.full(rows.num_train, -1, np.int32)
    classes[is_labelled] = sampling.bin_labels(labels[is_labelled], config.negatives.regression_bins)
    return classes


class _Classes(NamedTuple):
    """The classes of train rows, read a slice at a time."""

    rows: TrainRows

    def __len__(self) -> int:
        return self.rows.num_train

    def __getitem__(self, part: slice) -> np.ndarray:
        is_labelled = np.asarray(self.rows.is_labelled[part], bool)
        return np.where(is_labelled, self.rows.labels[part], -1).astype(np.int32)


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective of the whole method; see the module's docstring."""
    check(config)
    setting.head.check_distillation(config, setting.rows)
    _check_data(config, setting)
    pairs = matches(config, setting)
    groups = 1 if config.layer_aggregation == "concat" else len(pairs)
    train = setting.rows
    classes = None if train is None else classes_of(config, train)
    options, num_train = config.negatives, 0 if train is None else train.num_train
    uses_bank, uses_cache = (name in options.source for name in ("bank", "teacher_cache"))
    draws = uses_bank or uses_cache
    starts = sampling.class_starts(classes) if draws and options.label_aware else None
    smallest_pool = num_train - 1 if starts is None else sampling.smallest_pool(starts)
    has_index = starts is not None and not options.shared

    def draw(rng, frozen, batch):
        """int32 [K], or [batch, K] where not shared: rows of the bank or of the teacher cache."""
        num, ids = options.num_negatives, batch["example_ids"]
        if options.shared:
            return sampling.sample_pool(rng, num_train, num)
        replace = num >= smallest_pool  # as in the released code
        if options.label_aware:
            anchors = row_tables.look_up(frozen["train_rows"], ids)[:, 0]
            index = {"sorted_rows": frozen["sorted_rows"], "starts": starts}
            return sampling.sample_other_class(rng, index, anchors, num, replace=replace, own_ids=ids)
        return sampling.sample_any(rng, num_train, ids, num, replace)

    def draw_pool(rng, projection, frozen, batch):
        """Rows of the teacher cache and the batch's hard negatives, under the projection as it is now."""
        random_rng, hard_rng = jax.random.split(jax.random.fold_in(rng, 1))  # apart from the bank's draw
        parts = [draw(random_rng, frozen, batch)] if options.num_negatives else []
        if options.num_hard:
            own = row_tables.look_up(frozen["neighbours"], batch["example_ids"])
            hard = sampling.sample_neighbours(hard_rng, own, options.num_hard)
            parts.append(hard.reshape(-1) if options.shared else hard)  # everybody's neighbours serve everybody
        ids = jnp.concatenate(parts, axis=-1)
        pooled = row_tables.look_up(frozen["teacher_pooled"], jnp.maximum(ids, 0))
        rows = project(projection, pooled.reshape(-1, *pooled.shape[-2:]), config)
        return {"ids": ids, "features": rows.reshape(*ids.shape, *rows.shape[1:])}

    def init(rng, batch):
        rngs = jax.random.split(rng, 5)
        params = {"student": init_model(setting.student, rngs[0], batch)}
        frozen = {"teacher": init_model(setting.teacher, rngs[1], batch)}
        if classes is not None:
            # Stand-ins, like the random teacher: see `tables`.
            frozen["train_rows"] = row_tables.stand_in(num_train, 2)
        if has_index:
            frozen["sorted_rows"] = row_tables.stand_in(num_train)
        if uses_cache:
            width = setting.teacher.config.hidden_size
            frozen["teacher_pooled"] = row_tables.stand_in(num_train, len(pairs), width, dtype=jnp.float32, nothing=0)
        if options.num_hard:
            frozen["neighbours"] = row_tables.stand_in(num_train, options.num_neighbours)
        widths = {"student": setting.student.config.hidden_size, "teacher": setting.teacher.config.hidden_size}
        is_equal = config.equal_start and widths["student"] == widths["teacher"]
        for side, side_rng in zip(SIDES, (rngs[2], rngs[2] if is_equal else rngs[3]), strict=True):
            owner = frozen if side == "teacher" and config.teacher_projection == "frozen" else params
            owner[f"projection_{side}"] = init_projection(side_rng, config, len(pairs), widths[side])
        return params, frozen, init_state(rngs[4], config, num_train, groups) | init_memory(config, setting)

    def loss(params, frozen, objective_state, batch, step: Step):
        dropout_rng, negatives_rng = (None, jax.random.key(0)) if step.rng is None else jax.random.split(step.rng)
        views = compute_views(config, setting, params, frozen, batch, dropout_rng)
        total, objective_state, metrics = soft_terms(config, setting, views, objective_state, batch, step.progress)
        projections = {**frozen, **params}
        features = {
            "student": project(projections["projection_student"], views.student_pooled, config),
            "teacher": project(projections["projection_teacher"], views.teacher_pooled, config),
        }
        bank_ids = draw(negatives_rng, frozen, batch) if uses_bank else None
        pool = draw_pool(negatives_rng, projections["projection_teacher"], frozen, batch) if uses_cache else None
        losses, new_state, more = contrastive_term(
            config, features, objective_state, frozen, batch, bank_ids, pool, num_train=num_train
        )
        weight = config.contrastive_weight * scheduled(config.contrastive_schedule, step.progress)
        total += weight * mean(masked_sum(losses, batch["example_mask"]))
        return total, (new_state, {**metrics, **more})

    def tables(rows, split):
        def facts(start, stop):
            return np.stack([classes[start:stop], train.text_ids[start:stop]], axis=1)

        made = {"train_rows": RowTable(num_train, (2,), np.int32, -1, facts)}
        if has_index:
            by_class = functools.partial(sampling.rows_by_class, classes, starts)
            made["sorted_rows"] = RowTable(num_train, (), np.int32, 0, by_class)
        if uses_cache:
            pooled = rows["teacher_pooled"]
            read = lambda start, stop: np.asarray(pooled[np.arange(start, stop)])  # noqa: E731
            made["teacher_pooled"] = RowTable(num_train, tuple(pooled.shape[1:]), pooled.dtype, 0, read)
        if options.num_hard:
            # Each row is compared with all others: for this search alone the vectors lie whole on every device.
            vectors = jax.jit(lambda x: contrastive.unit_rows(layer_vectors(x, config).reshape(num_train, -1)))
            found = neighbours.nearest(
                vectors(np.asarray(pooled)),
                jnp.asarray(classes[:]),
                jnp.asarray(train.text_ids[:], jnp.int32),
                num_neighbours=options.num_neighbours,
                similarity_ceiling=options.hard_similarity_ceiling,
                mask_same_label=options.mask_same_label or options.label_aware,
                mask_same_text=options.mask_same_text,
                split=split,
            )
            nearest = placement.fetch(found)
            made["neighbours"] = RowTable(num_train, nearest.shape[1:], np.int32, -1, lambda a, b: nearest[a:b])
        return made

    return Objective(
        init,
        loss,
        teacher_view=kept_view(config, setting),
        row_tables=None if train is None else tables,
        cost=functools.partial(_cost, config, setting, len(pairs)),
    )


def _cost(config: ConfigDict, setting: Setting, num_matches: int, size: StepSize) -> Cost:
    """Projections and cosines of both sides, forward and backward, and the features that are sent."""
    options, groups = config.negatives, 1 if config.layer_aggregation == "concat" else num_matches
    sources, batch_size, dim = options.source.split("+"), size.batch_size, config.projection_dim
    num_keys = {
        "in_batch": batch_size,
        "bank": min(options.num_negatives, size.num_train),
        "queue": options.queue_size,
        "teacher_cache": options.num_negatives + options.num_hard,
    }
    keys = sum(num_keys[name] for name in sources)
    # No gradient reaches the teacher.
    widths = 3 * setting.student.config.hidden_size + 2 * setting.teacher.config.hidden_size
    projections = 2 * batch_size * num_matches * dim * widths
    cosines = 2 * batch_size * keys * groups * dim
    # On one device: its anchors with all keys, or all anchors with its part of the queue.
    queue = options.queue_size if "queue" in sources else 0
    scores = groups * (batch_size / size.shards * (keys - queue) + batch_size * queue / size.devices)
    drawn = options.num_negatives * (1 if options.shared else batch_size)
    table_bytes = 0 if setting.rows is None else _table_bytes(config, setting, num_matches, size)
    features = Features(
        batch_size=batch_size,
        num_bytes=2 * 4 * groups * dim,
        bank_rows=drawn + batch_size if "bank" in sources else 0,
        table_bytes=table_bytes,
        has_in_batch="in_batch" in sources,
        has_queue="queue" in sources,
    )
    return Cost({"contrastive": float(projections + 2 * 3 * cosines)}, scores, features)


def _table_bytes(config: ConfigDict, setting: Setting, num_matches: int, size: StepSize) -> int:
    """Bytes of the rows that a step looks up in the tables: class and text number, the index, the teacher's states."""
    options, batch_size = config.negatives, size.batch_size
    sources = options.source.split("+")
    times = 1 if options.shared else batch_size
    drawn = min(options.num_negatives, size.num_train) if options.shared else options.num_negatives
    num_bytes = 8 * batch_size  # the batch's own
    for source in sources:
        if source not in ("bank", "teacher_cache"):
            continue
        num_bytes += 8 * times * drawn
        if not options.shared and options.label_aware:
            num_bytes += (4 * drawn + 8) * batch_size
        if source == "teacher_cache":
            rows = times * drawn + batch_size * options.num_hard
            num_bytes += 4 * rows * num_matches * setting.teacher.config.hidden_size
            num_bytes += 8 * batch_size * options.num_hard + 4 * batch_size * options.num_neighbours * bool(
                options.num_hard
            )
    return num_bytes
