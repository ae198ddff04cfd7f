"""PairSupCon: pairwise supervised contrast of sentences (Zhang et al., EMNLP 2021), and the losses it is compared with.

    L = w_classify * L_C + w_instance * L_ID

of pairs that mean the same (entailed) or contradict each other. L_C: mean cross entropy over all pairs of

    logits = [e1; e2; |e1 - e2|] Wc,          e the encoder's vector, not normalised

L_ID: mean over the views of entailed pairs, both sides, of picking the partner i' of view i among all views j of the
global batch, whatever their pair's label, with s_ij = <z_i, z_j> / tau and z = normalise(relu(e W1) W2):

    orig            log(1 + sum_j exp(s_ij - s_ii'))
    hard_negative   log(1 + sum_j alpha_ij exp(s_ij - s_ii')),   alpha_ij = exp(s_ij) / mean_k exp(s_ik)
    ranking         orig of the first texts only, against the second (and third) texts: sentence-transformers'
                    MultipleNegativesRankingLoss, supervised SimCSE (Gao et al., 2021)

Rows are labelled pairs; or, with w_classify = 0, single texts, of which two passes with other dropout are a pair that
means the same (unsupervised SimCSE); or, of `ranking`, triplets, whose third text is a hard negative.

Both texts of a row go through the encoder in one pass. A text that equals i or i' is no negative of i; `released`
leaves it in. Without an entailed pair in the batch, or without any negative, L_ID is 0 with zero gradient, which
`num_pairs` and `num_negatives` tell. The heads are thrown away after training; in the paper their rate is 100 times the
encoder's, which is part of the method: set it by `optimizer.rules`, as configs/pair_supcon does.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from codir_jax.losses import contrastive
from codir_jax.negatives.in_batch import score_matrix
from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.microbatches import run_student
from codir_jax.objectives.sums import masked_sum, mean
from codir_jax.objectives.texts import init_model
from codir_jax.processes import fields
from codir_jax.processes.fields import defaults, field
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import constrain, gather_batch

HEADS, ROLES = ("embedding",), ("student",)
LEAST_BATCH = 2
INSTANCES = ("orig", "hard_negative", "ranking")


FIELDS = {
    "name": field("pair_supcon", "the method, a file of codir_jax/objectives"),
    "classify_weight": field(1.0, "weight of L_C; 0: no classifier", at_least=0, at_most=1e6),
    "instance_weight": field(1.0, "beta, weight of L_ID; 0: none", at_least=0, at_most=1e6),
    "instance": field("hard_negative", "form of L_ID", words=INSTANCES),
    "alpha_gradient": field(True, "of hard_negative: the gradient goes through alpha (released)"),
    "temperature": field(0.05, "tau", above=0, at_most=1e4),
    # 0: z is the encoder's own vector, normalised.
    "projection_dim": field(128, "numbers of z; 0: no projection", at_least=0, at_most=65_536),
    "mask_same_text": field(True, "an equal text is no negative; ours"),
}


def default_config(preset: str = "paper") -> ConfigDict:
    """Fields of the method. `preset` is "paper" or "released"; they differ only in values."""
    config = ConfigDict(defaults(FIELDS))
    config.mask_same_text = preset != "released"
    return config


def check(config: ConfigDict) -> None:
    """Refuses what in the fields cannot be.

    Raises:
      UserError: what was expected, what came.
    """
    fields.check(FIELDS, config, "objective")
    if not (config.classify_weight or config.instance_weight):
        raise UserError("objective.classify_weight and instance_weight are both 0: there is nothing to learn")


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective of the whole method; see the module's docstring."""
    check(config)
    if setting.rows is not None:
        _check_rows(config, setting.rows)
    width = setting.student.config.hidden_size

    def init(rng, batch):
        rngs = jax.random.split(rng, 4)
        params = {"student": init_model(setting.student, rngs[0], batch)}
        if config.instance_weight and config.projection_dim:
            shapes = {"hidden": (width, width), "output": (width, config.projection_dim)}
            params["instance_head"] = {n: _linear(r, s) for (n, s), r in zip(shapes.items(), rngs[1:3], strict=True)}
        if config.classify_weight:
            params["class_head"] = {"output": _linear(rngs[3], (3 * width, 2))}
        return params, {}, {}

    def loss(params, frozen, objective_state, batch, step: Step):
        del frozen
        if batch["input_ids"].ndim == 2:
            batch = _twins(batch)
        vectors = run_student(setting, params["student"], batch, step.rng, lambda output, _: output.vectors)
        total, metrics = 0.0, {}
        if config.classify_weight:
            values, is_right = classify_terms(params["class_head"], vectors, batch["labels"])
            metrics["classify_loss"] = masked_sum(values, batch["label_mask"])
            metrics["classify_accuracy"] = masked_sum(is_right, batch["label_mask"])
            total += config.classify_weight * mean(metrics["classify_loss"])
        if config.instance_weight:
            views = project(params.get("instance_head"), vectors)
            found = instance_terms(config, views, batch)
            metrics |= found
            total += config.instance_weight * mean(found["instance_loss"])
        return total, (objective_state, metrics)

    return Objective(init, loss)


def _check_rows(config: ConfigDict, rows) -> None:
    """Refuses train rows that the terms have no meaning for."""
    kinds = {1: "sentences", 2: "pairs", 3: "triplets"}
    found = kinds[rows.texts_per_row]
    if config.classify_weight and found != "pairs":
        raise UserError(
            f"objective.classify_weight={config.classify_weight} classifies pairs, and the train rows are {found}; set "
            "data.layout='pairs', or objective.classify_weight=0"
        )
    if config.classify_weight and len(set(rows.labels[rows.is_labelled].tolist())) < 2:
        raise UserError(
            "all train pairs have one label, and objective.classify_weight > 0 tells entailment from contradiction; "
            "add pairs of the other kind, or set objective.classify_weight=0"
        )
    if config.instance_weight and _num_texts(rows) < 3:
        raise UserError(
            f"the train rows hold {_num_texts(rows)} different text(s), outer white space aside; a pair is told apart "
            "from other texts, so at least three are needed"
        )
    if config.instance_weight and found == "triplets" and config.instance != "ranking":
        raise UserError(
            f"objective.instance={config.instance!r} takes pairs, and the train rows are triplets; set "
            "data.layout='pairs' (two pairs a triplet), or objective.instance='ranking'"
        )


def _num_texts(rows) -> int:
    """Different texts of the train rows; the empty third text of a triplet without a contradiction counts as one."""
    return len(np.unique(rows.text_ids[:]))


def _twins(batch):
    """The batch with each text twice in its row: two passes with other dropout."""
    names = ("input_ids", "attention_mask", "token_type_ids", "text_ids")
    return {**batch, **{name: jnp.repeat(batch[name][:, None], 2, axis=1) for name in names}}


def _linear(rng: jax.Array, shape: tuple[int, int]):
    """{"kernel"}, uniform(-1/sqrt(in), 1/sqrt(in)) as torch.nn.Linear starts in the released code."""
    bound = shape[0] ** -0.5
    return {"kernel": jax.random.uniform(rng, shape, minval=-bound, maxval=bound)}


def _apply(layer, x):
    # Full float32, as for the scores: see in_batch.score_matrix.
    return jnp.matmul(x, layer["kernel"], precision=jax.lax.Precision.HIGHEST)


def project(head, vectors: jax.Array) -> jax.Array:
    """z, float32 [..., dim], unit rows; 0 with zero gradient where every unit is dead.

    Args:
      head: {"hidden", "output"}: {"kernel" float32 [in, out]}; None takes the vectors themselves.
      vectors: float [..., hidden].
    """
    vectors = vectors.astype(jnp.float32)
    if head is not None:
        vectors = _apply(head["output"], jax.nn.relu(_apply(head["hidden"], vectors)))
    return contrastive.unit_rows(vectors)


def classify_terms(head, vectors: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(cross entropy, whether the larger logit is the label's) of each pair, float32 and bool [batch].

    Args:
      head: {"output": {"kernel" float32 [3 hidden, 2]}}.
      vectors: float [batch, 2, hidden].
      labels: int32 [batch], 1 = entailment, 0 = contradiction.
    """
    first, second = vectors[:, 0].astype(jnp.float32), vectors[:, 1].astype(jnp.float32)
    logits = _apply(head["output"], jnp.concatenate([first, second, jnp.abs(first - second)], axis=-1))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), logits.argmax(-1) == labels


def instance_terms(config: ConfigDict, views: jax.Array, batch):
    """L_ID as metrics: (sum, count) of the loss over the views of entailed pairs, and what is measured beside it.

    Each device has its rows' anchors and everybody's keys.

    Args:
      config: of `default_config()`.
      views: unit float32 [batch, V, dim]; V = 3 of triplets.
      batch: of `data.batch`; labels are read where rows are labelled pairs, has_negative of triplets.
    """
    num_rows, num_views = views.shape[:2]
    is_ranking = config.instance == "ranking"
    anchor_views = (0,) if is_ranking else (0, 1)
    key_views = tuple(range(1, num_views)) if is_ranking else (0, 1)

    is_real = batch["example_mask"] > 0
    has_text = jnp.broadcast_to(is_real[:, None], (num_rows, num_views))
    if "has_negative" in batch:
        has_text = has_text & jnp.stack([is_real, is_real, batch["has_negative"] > 0], axis=1)
    is_labelled = batch["label_mask"] > 0
    is_pair = is_real & jnp.where(is_labelled, batch["labels"] == 1, True)

    keys = gather_batch(views)[:, key_views].reshape(-1, views.shape[-1])
    key_texts = constrain(batch["text_ids"])[:, key_views].reshape(-1)
    is_key = constrain(has_text)[:, key_views].reshape(-1)
    key_rows, key_sides = (x.reshape(-1) for x in jnp.indices((num_rows, len(key_views))))
    key_sides = key_sides + key_views[0]

    losses, of_anchor = [], {"num_negatives": [], "num_masked": [], "retrieval_rate": []}
    for side in anchor_views:
        partner = 1 - side
        own_texts = batch["text_ids"][:, side, None], batch["text_ids"][:, partner, None]
        is_own = (jnp.arange(num_rows)[:, None] == key_rows) & ((key_sides == side) | (key_sides == partner))
        usable = is_key & ~is_own
        is_same = usable & ((own_texts[0] == key_texts) | (own_texts[1] == key_texts))
        is_masked = is_same if config.mask_same_text else jnp.zeros_like(is_same)
        usable = constrain(usable & ~is_masked, "batch")
        positive = jnp.sum(views[:, side] * views[:, partner], axis=-1)
        negatives = [(score_matrix(views[:, side], keys), usable)]
        hardness = float(config.instance == "hard_negative")
        losses.append(contrastive.info_nce(positive, negatives, config.temperature, hardness, config.alpha_gradient))
        of_anchor["num_negatives"].append(usable.sum(1))
        of_anchor["num_masked"].append(is_masked.sum(1))
        of_anchor["retrieval_rate"].append(contrastive.ranks_first(positive, negatives))

    is_anchor = jnp.stack([is_pair] * len(anchor_views))
    measured = {name: masked_sum(jnp.stack(values), is_anchor) for name, values in of_anchor.items()}
    has_negatives = jnp.stack(of_anchor["num_negatives"]) > 0
    measured["retrieval_rate"] = masked_sum(jnp.stack(of_anchor["retrieval_rate"]), is_anchor & has_negatives)
    measured["num_pairs"] = (is_pair.sum().astype(jnp.float32), jnp.ones(()))
    return {"instance_loss": masked_sum(jnp.stack(losses), is_anchor), **jax.lax.stop_gradient(measured)}
