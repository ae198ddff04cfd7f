"""CoDIR: contrastive distillation on intermediate representations (Sun et al., EMNLP 2020).

    L = w_task * L_task + w_kd * L_KD + w_crd * L_CRD

A term on hidden states beside it is that of `hidden_term`; the contrast may be asked of every token instead of a text
(`contrast.unit`, `token_contrast`), and its labels may be the teacher's (`contrast.target`).

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
from codir_jax.objectives import distill, hidden_term, spaces, token_contrast
from codir_jax.objectives.codir_cost import cost
from codir_jax.objectives.codir_settings import FIELDS, check, default_config, needs_cache
from codir_jax.objectives.contract import Objective, Setting, Step, TrainRows
from codir_jax.objectives.contrastive_term import contrastive_term, init_state
from codir_jax.objectives.distill import init_memory, soft_terms
from codir_jax.objectives.projections import layer_vectors
from codir_jax.objectives.schedules import scheduled
from codir_jax.objectives.sums import masked_sum, mean
from codir_jax.objectives.texts import init_model
from codir_jax.objectives.views import Wanted, compute_views, kept_view, matches
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import placement

# Share of the anchors whose own view is ranked first, from which on one-hot labels have nothing more to teach.
LEARNED = 0.99
# Those that keep no row for each row of the train set.
ROWLESS_SOURCES = ("in_batch", "queue")
HEADS, ROLES = ("classification", "masked_lm", "embedding"), ("student", "teacher")
# The preset that fits a head, where it is not the first one.
PRESETS = {"masked_lm": "pretrain", "embedding": "encoder"}
__all__ = ["FIELDS", "HEADS", "PRESETS", "ROLES", "check", "default_config", "make", "needs_cache"]


def _check_data(config: ConfigDict, setting: Setting) -> None:
    """Refuses negatives that the setting has no data for."""
    if config.contrast.unit == "token":
        return
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


def wanted(config: ConfigDict, setting: Setting) -> Wanted:
    """The hidden states that are compared; the matched layers are the last ones that are pooled."""
    pairs = matches(config, setting)
    found = distill.wanted(config, setting)
    found = found._replace(pooled=found.pooled[: -len(pairs)] + pairs)
    if config.contrast.unit == "text":
        return found
    ours, theirs = token_contrast.layers(config, setting)
    return Wanted(
        found.pooled,
        tuple(sorted({*found.student_tokens, *ours})),
        tuple(sorted({*found.teacher_tokens, *theirs})),
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
    pairs, compared = matches(config, setting), wanted(config, setting)
    groups = spaces.num_groups(config, len(pairs))
    is_of_tokens, train = config.contrast.unit == "token", setting.rows
    classes, sets = None, None
    if train is not None and train.is_multi_label:
        numbers, sets = sampling.label_sets(train.labels[:])
        classes = np.where(train.is_labelled[:], numbers, -1).astype(np.int32)
    elif train is not None:
        classes = classes_of(config, train)
    options, num_train = config.negatives, 0 if train is None else train.num_train
    uses_bank, uses_cache = (not is_of_tokens and name in options.source for name in ("bank", "teacher_cache"))
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

    def draw_pool(rng, to_features, frozen, batch):
        """Rows of the teacher cache and the batch's hard negatives, in the space as it is now."""
        random_rng, hard_rng = jax.random.split(jax.random.fold_in(rng, 1))  # apart from the bank's draw
        parts = [draw(random_rng, frozen, batch)] if options.num_negatives else []
        if options.num_hard:
            own = row_tables.look_up(frozen["neighbours"], batch["example_ids"])
            hard = sampling.sample_neighbours(hard_rng, own, options.num_hard)
            parts.append(hard.reshape(-1) if options.shared else hard)  # everybody's neighbours serve everybody
        ids = jnp.concatenate(parts, axis=-1)
        pooled = row_tables.look_up(frozen["teacher_pooled"], jnp.maximum(ids, 0))[..., -len(pairs) :, :]
        rows = to_features(pooled.reshape(-1, *pooled.shape[-2:]))
        return {"ids": ids, "features": rows.reshape(*ids.shape, *rows.shape[1:])}

    def init(rng, batch):
        rngs = jax.random.split(rng, 5)
        params = {"student": init_model(setting.student, rngs[0], batch)}
        params |= hidden_term.init(jax.random.fold_in(rng, 1), config, setting)
        frozen = {"teacher": init_model(setting.teacher, rngs[1], batch)}
        if classes is not None and not is_of_tokens:
            # Stand-ins, like the random teacher: see `tables`.
            frozen["train_rows"] = row_tables.stand_in(num_train, 2)
            if sets is not None:
                frozen["label_sets"] = jnp.asarray(sets)
        if has_index:
            frozen["sorted_rows"] = row_tables.stand_in(num_train)
        if uses_cache:
            width = setting.teacher.config.hidden_size
            frozen["teacher_pooled"] = row_tables.stand_in(
                num_train, len(compared.pooled), width, dtype=jnp.float32, nothing=0
            )
        if options.num_hard:
            frozen["neighbours"] = row_tables.stand_in(num_train, options.num_neighbours)
        for name, weights in spaces.init(rngs[2:4], config, setting, len(pairs)).items():
            owner = frozen if name == "projection_teacher" and config.teacher_projection == "frozen" else params
            owner[name] = weights
        return params, frozen, first_state(rngs[4]) | init_memory(config, setting)

    def first_state(rng):
        if is_of_tokens:
            return token_contrast.init_state(config, setting)
        size = spaces.feature_size(config, len(pairs), setting.teacher.config.hidden_size)
        return init_state(rng, config, num_train, groups, size)

    def of_texts(params, frozen, views, state, batch, rng):
        """As `token_contrast.token_term`, of pooled states."""
        weights = {**frozen, **params}
        ours, theirs = views.student_pooled[:, -len(pairs) :], views.teacher_pooled[:, -len(pairs) :]
        middle = spaces.centre(config, theirs, batch["example_mask"])
        of_teacher = lambda pooled: spaces.features(config, weights, "teacher", pooled, middle)  # noqa: E731
        features = {"student": spaces.features(config, weights, "student", ours, middle), "teacher": of_teacher(theirs)}
        bank_ids = draw(rng, frozen, batch) if uses_bank else None
        pool = draw_pool(rng, of_teacher, frozen, batch) if uses_cache else None
        return contrastive_term(config, features, state, frozen, batch, bank_ids, pool, num_train=num_train)

    def of_tokens(params, frozen, views, state, batch, rng):
        return token_contrast.token_term(config, setting, {**frozen, **params}, views, state, batch, rng)

    contrast = of_tokens if is_of_tokens else of_texts

    def loss(params, frozen, objective_state, batch, step: Step, has_head=True):
        dropout_rng, negatives_rng = (None, jax.random.key(0)) if step.rng is None else jax.random.split(step.rng)
        views = compute_views(config, setting, compared, params, frozen, batch, dropout_rng)
        terms, metrics = {}, {}
        if has_head:
            terms, objective_state, metrics = soft_terms(config, setting, views, objective_state, batch, step.progress)
        hidden, of_hidden = distill.hidden_terms(config, setting, params, views, batch, step.progress)
        losses, new_state, more = contrast(params, frozen, views, objective_state, batch, negatives_rng)
        weight = config.contrastive_weight * scheduled(config.contrastive_schedule, step.progress)
        terms |= {**hidden, "contrastive": weight * mean(masked_sum(losses, batch["example_mask"]))}
        return distill.total(terms, step), (new_state, {**metrics, **of_hidden, **more})

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
                vectors(np.asarray(pooled)[:, -len(pairs) :]),
                jnp.asarray(classes[:]),
                jnp.asarray(train.text_ids[:], jnp.int32),
                num_neighbours=options.num_neighbours,
                similarity_ceiling=options.hard_similarity_ceiling,
                mask_same_label=options.mask_same_label or options.label_aware,
                mask_same_text=options.mask_same_text,
                split=split,
                label_sets=None if sets is None else jnp.asarray(sets),
            )
            nearest = placement.fetch(found)
            made["neighbours"] = RowTable(num_train, nearest.shape[1:], np.int32, -1, lambda a, b: nearest[a:b])
        return made

    return Objective(
        init,
        loss,
        teacher_view=kept_view(config, setting, compared),
        row_tables=None if train is None or is_of_tokens else tables,
        cost=functools.partial(cost, config, setting),
        early=distill.early(config, loss),
        terms=(*distill.names_of_terms(config), "contrastive"),
        has_learned={"token_retrieval_rate" if is_of_tokens else "retrieval_rate": LEARNED},
    )
