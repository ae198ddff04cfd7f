"""The contrastive term of CoDIR: candidates of all sources, both anchors, new state."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from codir_jax.losses import contrastive, distillation, nce
from codir_jax.negatives import in_batch, memory_bank, repeats, row_tables
from codir_jax.objectives.sums import masked_sum
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import constrain, gather_batch, with_axes

SIDES = ("student", "teacher")


def init_state(rng: jax.Array, config, num_train: int, groups: int, size: int | None = None):
    """Banks [rows, groups, size] of both sides, queue and normalisers, as far as the config uses them.

    Those with rows are boxed with their logical axes. A bank has `memory_bank.padded_rows` of the train set.
    """
    size = config.projection_dim if size is None else size
    state = {}
    if "bank" in config.negatives.source:
        num_rows = memory_bank.padded_rows(num_train)
        rows = {
            side: memory_bank.init_bank(side_rng, num_rows, groups, size)
            for side, side_rng in zip(SIDES, jax.random.split(rng), strict=True)
        }
        state["bank"] = {side: with_axes(bank, "bank_rows", None, None) for side, bank in rows.items()}
        state["bank_visited"] = with_axes(jnp.zeros((num_rows,), bool), "bank_rows")
    if "queue" in config.negatives.source:
        # One row holds student and teacher features of an example, all groups side by side.
        queue = memory_bank.init_queue(config.negatives.queue_size, 2 * groups * size)
        axes = {"rows": ("queue_rows", None), "head": ()}
        state["queue"] = {name: with_axes(x, *axes.get(name, ("queue_rows",))) for name, x in queue.items()}
    if config.contrastive_loss == "nce":
        state["log_normaliser"] = {side: jnp.full((groups,), -jnp.inf) for side in SIDES}
    return state


def contrastive_term(config, features, state, frozen, batch, bank_ids=None, pool=None, *, num_train=0):
    """The contrastive loss of each example and the state after the batch.

    Args:
      config: of `objectives.codir.default_config()`.
      features: {"student", "teacher": unit float32 [batch, groups, dim]}.
      state: as from `init_state`; other entries pass through.
      frozen: {"train_rows" int32 [num_train + 1 or more, 2]}, class (-1 = unlabelled) and text number of each train
        row; of texts with any number of classes also {"label_sets" int32 [S, W]}, of `sampling.label_sets`, and a
        class is the number of a set. Nothing at pre-training.
      batch: of `data.batch`.
      bank_ids: int32 [batch, K], or [K] for the whole batch: bank rows; None without a bank.
      pool: freshly projected teacher rows, {"ids" int32 [batch, P] or [P], -1 = no row;
        "features" unit float32 [batch, P, groups, dim] or [P, groups, dim]}; None without a teacher cache.
      num_train: examples of the train set, where rows are drawn from it.

    Returns:
      (loss float32 [batch], new state, metrics).
    """
    whole = _gather(config, features, frozen, batch)
    drawn, own = _read_bank(state["bank"], bank_ids, whole.bank_ids) if "bank" in state else (None, None)
    live = jnp.einsum("bgd,bgd->bg", features["student"], features["teacher"])
    positives = dict.fromkeys(SIDES, live) if config.positive == "live" else _stale_positives(features, own)
    sources = _sources(config, features, state, frozen, batch, whole, bank_ids, drawn, pool, num_train)
    is_soft = config.contrast.target == "teacher"
    anchors = SIDES if config.anchors == "both" else (config.anchors,)
    new_state = dict(state)
    if config.contrastive_loss == "nce":
        # The bank is the only source, so both sides have one mask.
        mask = sources["student"][0][1]
        counted = jnp.concatenate([batch["example_mask"][:, None] > 0, mask], axis=1)
        scores = {
            s: jnp.concatenate([positives[s][..., None], sources[s][0][0]], 2) / config.contrastive_temperature
            for s in SIDES
        }
        new_state["log_normaliser"] = _normalisers(config, scores, counted, state["log_normaliser"], num_train)
        num_negatives = config.negatives.num_negatives
        per_group = jax.vmap(
            lambda x, log_z: nce.released_nce(x, log_z, num_train, num_negatives, mask), in_axes=(1, 0), out_axes=1
        )
        per_side = {s: per_group(scores[s], new_state["log_normaliser"][s]).mean(1) for s in anchors}
    elif is_soft:
        anchors, per_side = SIDES[:1], {SIDES[0]: _relation(config, live, sources, batch).mean(1)}
    else:
        loss = functools.partial(contrastive.info_nce, temperature=config.contrastive_temperature)
        per_side = {s: _per_group(loss, positives[s], sources[s]).mean(1) for s in anchors}
    losses = sum(per_side[side] for side in anchors) / len(anchors)

    _store(config, whole, new_state, own)
    metrics = _metrics(losses, live, sources["student"], features, whole, batch)
    if is_soft:
        metrics |= _entropies(config, live, sources, batch)
    if "document_ids" in batch and "in_batch" in config.negatives.source:
        metrics |= _hard_metrics(live, sources["student"][0], whole, batch)
    return losses, new_state, metrics


def _relation(config, live, sources, batch):
    """KL of the student's from the teacher's distribution over its own view and all keys, float32 [batch, groups]."""
    everything = _with_own(live, sources, batch)
    tau, teacher_tau = config.contrastive_temperature, config.contrast.teacher_temperature
    return distillation.similarity_loss(everything, tau, teacher_tau)[0]


def _with_own(live, sources, batch):
    """[(student's cosines, teacher's, float32 [batch, groups, K], usable bool, the same)], the own view first."""
    is_real = (batch["example_mask"] > 0)[:, None, None]
    itself = (live[..., None], jnp.ones_like(live)[..., None], jnp.broadcast_to(is_real, (*live.shape, 1)))
    found = [
        (ours, theirs, jnp.broadcast_to(usable[:, None], ours.shape))
        for (ours, usable), theirs in zip(sources["student"], sources["taught"], strict=True)
    ]
    return [itself, *found]


def _entropies(config, live, sources, batch):
    """Of both distributions, in nats: what the student knows of them, and what there is to know."""
    everything, real = _with_own(live, sources, batch), batch["example_mask"]
    taus = {"student": config.contrastive_temperature, "teacher": config.contrast.teacher_temperature}
    return jax.lax.stop_gradient(
        {
            f"{side}_entropy": masked_sum(
                contrastive.entropy([(x[i], x[2]) for x in everything], taus[side]).mean(1), real
            )
            for i, side in enumerate(SIDES)
        }
    )


def _per_group(function, positive, sources):
    """`function(positive [batch], sources)` of each group, float32 [batch, groups]."""
    cosines, masks = [c for c, _ in sources], [m for _, m in sources]
    return jax.vmap(lambda p, c: function(p, list(zip(c, masks, strict=True))), in_axes=1, out_axes=1)(
        positive, cosines
    )


class _WholeBatch(NamedTuple):
    """What every device needs of the global batch.

    Attributes:
      features: {side: float32 [batch, groups, dim]}.
      bank_ids: int32 [batch], rows of the bank; of a padded row one outside it.
      classes: int32 [batch], -1 = unknown; at pre-training, where a row has no class, its document.
      text_ids: int32 [batch]. is_real: bool [batch].
    """

    features: dict[str, jax.Array]
    bank_ids: jax.Array
    classes: jax.Array
    text_ids: jax.Array
    is_real: jax.Array


def _gather(config, features, frozen, batch) -> _WholeBatch:
    """The batch's features and ids on every device: one all-gather of each."""
    has_documents = "train_rows" not in frozen and "document_ids" in batch
    if config.negatives.mask_same_document and not has_documents:
        raise UserError("objective.negatives.mask_same_document needs document_ids in the batch, as a corpus has them")
    is_real = (batch["example_mask"] > 0).astype(jnp.int32)
    columns = [batch["example_ids"], batch["text_ids"], is_real]
    columns += [batch["document_ids"]] if has_documents else []
    ids, text_ids, is_real, *documents = constrain(jnp.stack(columns, axis=1)).T
    outside = jnp.iinfo(jnp.int32).max
    if "train_rows" in frozen:
        classes = row_tables.look_up(frozen["train_rows"], ids)[:, 0]
    else:
        classes = documents[0] if documents else jnp.full_like(ids, -1)
    return _WholeBatch(
        features={side: gather_batch(features[side]) for side in SIDES},
        # Each is constrained, so that XLA does not split it again only to gather it again.
        bank_ids=constrain(jnp.where(is_real > 0, ids, outside)),
        classes=constrain(classes),
        text_ids=constrain(text_ids),
        is_real=constrain(is_real > 0),
    )


def _sources(config, features, state, frozen, batch, whole, bank_ids, drawn, pool, num_train):
    """The negatives of both anchors, source by source: {side: [(cosines [batch, groups, K], usable bool [batch, K])]}.

    The student anchor meets teacher rows, the teacher anchor student rows; a teacher cache has rows for the student
    anchor only. In-batch negatives span the global batch: each device has its anchors and everybody's keys. A queue
    stays where it is: each device has everybody's anchors and its rows.
    """
    options, own_ids = config.negatives, batch["example_ids"]
    mask_same_class = _masks_classes(config) if "train_rows" in frozen else options.mask_same_document
    false_negatives = {"mask_same_label": mask_same_class, "mask_same_text": options.mask_same_text}
    false_negatives["label_sets"] = frozen.get("label_sets")
    is_real = (batch["example_mask"] > 0)[:, None]
    found = {name: [] for name in (*SIDES, "taught")}

    def add(anchors, rows, usable):
        if config.contrast.target == "teacher":
            found["taught"].append(_cosines(anchors["teacher"], rows["teacher"]))
        for side, other in (SIDES, SIDES[::-1]):
            if other in rows:  # a teacher cache has no rows for the teacher's anchor
                found[side].append((_cosines(anchors[side], rows[other]), usable))

    if "in_batch" in options.source:
        keys = whole.classes, whole.text_ids, whole.is_real, whole.classes >= 0
        add(features, whole.features, constrain(in_batch.false_negative_mask(*keys, **false_negatives), "batch"))
    if "bank" in options.source:
        is_valid = is_real & (bank_ids != own_ids[:, None])
        if options.mask_unvisited:
            is_valid &= state["bank_visited"][bank_ids]
        add(features, drawn, _usable_rows(config, frozen, batch, whole, bank_ids, is_valid))
    if "queue" in options.source:
        queue = state["queue"]
        rows = queue["rows"].reshape(-1, 2, *features["student"].shape[1:])
        keys = queue["labels"], queue["text_ids"], queue["is_valid"]
        usable = in_batch.usable_negatives(whole.classes, whole.text_ids, *keys, **false_negatives)
        usable = constrain(usable & whole.is_real[:, None], None, "queue_rows")
        add(whole.features, {side: rows[:, i] for i, side in enumerate(SIDES)}, usable)
    if pool is not None:
        ids = jnp.where(pool["ids"] < 0, num_train, pool["ids"])
        is_counted = (ids < num_train) & ~repeats.is_repeat(ids)
        if "in_batch" in options.source:  # the live view of the same text is there already
            is_counted &= ~repeats.is_among(ids, whole.bank_ids)
        is_valid = is_real & is_counted & (ids != own_ids[:, None])
        usable = _usable_rows(config, frozen, batch, whole, ids, is_valid)
        add(features, {"teacher": pool["features"]}, usable)
    return found


def _masks_classes(config) -> bool:
    """Whether an example of the anchor's class is no negative; soft labels know by themselves how near it is."""
    return config.negatives.mask_same_label and config.contrast.target == "one_hot"


def _usable_rows(config, frozen, batch, whole, ids, is_valid):
    """Usable bool [batch, K] of train rows `ids`; a pool that all anchors share is made label-aware here."""
    options, is_one_hot = config.negatives, config.contrast.target == "one_hot"
    sets = frozen.get("label_sets")  # a row of another set may still have a class in common
    is_pool = options.shared or sets is not None
    found = row_tables.look_up(frozen["train_rows"], ids)
    return in_batch.usable_negatives(
        constrain(whole.classes, "batch"),
        batch["text_ids"],
        found[..., 0],
        found[..., 1],
        is_valid,
        mask_same_label=is_one_hot and (options.mask_same_label or (is_pool and options.label_aware)),
        mask_same_text=options.mask_same_text,
        label_sets=sets,
    )


def _cosines(anchors, rows):
    """Float32 [batch, groups, K]; rows of all anchors [K, groups, dim] or of each [batch, K, groups, dim]."""
    if rows.ndim == 3:
        groups = range(rows.shape[1])
        return jnp.stack([in_batch.score_matrix(anchors[:, g], rows[:, g]) for g in groups], axis=1)
    return jax.vmap(memory_bank.row_scores, in_axes=(1, 2), out_axes=1)(anchors, rows)


def _read_bank(bank, bank_ids, own_ids):
    """All that a step reads of the banks: ({side: rows `bank_ids`}, {side: rows of the batch's own ids}).

    One look-up a side, so that the update can be written in place (see `memory_bank.update`). Rows are float32
    [*ids.shape, groups, dim].
    """
    ids = constrain(jnp.concatenate([bank_ids.reshape(-1), own_ids]))
    read = {s: constrain(memory_bank.lookup(bank[s], ids)) for s in SIDES}
    drawn = {s: rows[: bank_ids.size].reshape(*bank_ids.shape, *rows.shape[1:]) for s, rows in read.items()}
    return drawn, {s: rows[bank_ids.size :] for s, rows in read.items()}


def _stale_positives(features, rows):
    """{side: cosine with the example's own bank row of the other side, float32 [batch, groups]} (released code)."""
    return {
        "student": jnp.einsum("bgd,bgd->bg", features["student"], rows["teacher"]),
        "teacher": jnp.einsum("bgd,bgd->bg", features["teacher"], rows["student"]),
    }


def _normalisers(config, scores, counted, previous, num_train):
    """{side: ln Z, float32 [groups]}: fixed by the first batch (released), or a moving average."""
    momentum = 1.0 if config.normaliser == "first_batch" else config.normaliser_decay
    estimate = jax.vmap(lambda x: nce.log_normaliser_estimate(x, num_train, counted), in_axes=1)
    return {s: nce.next_log_normaliser(previous[s], estimate(scores[s]), momentum) for s in SIDES}


def _store(config, whole, new_state, own) -> None:
    """Writes the batch's features, as constants, into the bank and the queue of `new_state`."""
    features, ids = jax.lax.stop_gradient(whole.features), whole.bank_ids
    if "bank" in new_state:
        bank, momentum = new_state["bank"], config.negatives.momentum
        new_state["bank"] = {s: memory_bank.update(bank[s], ids, features[s], momentum, own[s]) for s in SIDES}
        new_state["bank_visited"] = new_state["bank_visited"].at[ids].set(True, mode="drop")
    if "queue" in new_state:
        rows = jnp.stack([features[s] for s in SIDES], axis=1).reshape(ids.shape[0], -1)
        new_state["queue"] = memory_bank.push(new_state["queue"], rows, whole.classes, whole.text_ids, whole.is_real)


def _metrics(losses, live, sources, features, whole, batch):
    """Loss, effective negatives, how often the own teacher view ranks first, alignment, uniformity.

    Args:
      live: float32 [batch, groups], cosine with the own teacher view.
      sources: negatives of the student's anchor.
    """
    real = batch["example_mask"]
    spread = jax.vmap(contrastive.uniformity, in_axes=(1, None, 1, None))
    uniformity = spread(features["student"], real, whole.features["student"], whole.is_real).mean()
    align = jax.vmap(contrastive.alignment, in_axes=1, out_axes=1)(features["student"], features["teacher"])
    num_negatives, retrieval_rate = retrieval(live, sources, real)
    return jax.lax.stop_gradient(
        {
            "contrastive_loss": masked_sum(losses, real),
            "num_negatives": num_negatives,
            "retrieval_rate": retrieval_rate,
            "alignment": masked_sum(align.mean(1), real),
            "uniformity": (uniformity, jnp.ones(())),
        }
    )


def _hard_metrics(live, in_batch_source, whole, batch):
    """Negatives of the batch from the anchor's own document, and how often the own teacher view beats them all."""
    cosines, usable = in_batch_source
    documents = batch["document_ids"]
    is_hard = usable & (documents[:, None] == whole.classes) & (documents[:, None] >= 0)
    num_hard, hard_rate = retrieval(live, [(cosines, is_hard)], batch["example_mask"])
    return jax.lax.stop_gradient({"num_hard_negatives": num_hard, "hard_retrieval_rate": hard_rate})


def retrieval(live, sources, real):
    """(sum, count) of the negatives an example has, and of the examples with any whose own view beats them all.

    Args:
      live: float32 [batch, groups], cosine with the own view; a mean over the groups is taken.
      sources: [(cosines float32 [batch, groups, K], usable bool [batch, K])].
      real: float32 [batch], 1 where the row counts.
    """
    num_negatives = sum(mask.sum(1) for _, mask in sources)
    first = _per_group(contrastive.ranks_first, live, sources).mean(1)
    return masked_sum(num_negatives, real), masked_sum(first, real * (num_negatives > 0))
