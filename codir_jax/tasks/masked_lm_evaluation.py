"""What a masked LM is worth on held-out text, and how near a student is to its teacher; nothing is trained here.

Arms of a comparison differ in their losses, layers and projections. So beside the method's own retrieval rate there is
one that all of them share: no trained projection, the same layers and pooling whatever the method.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.losses import contrastive
from codir_jax.losses.vocabulary import vocabulary_terms
from codir_jax.models.layer_selection import match_layers
from codir_jax.models.pooling import standardized
from codir_jax.negatives import in_batch
from codir_jax.objectives.contract import Setting
from codir_jax.objectives.contrastive_term import retrieval
from codir_jax.objectives.projections import project
from codir_jax.objectives.sums import Metrics, masked_sum
from codir_jax.objectives.views import matches, pool
from codir_jax.sharding.rules import gather_batch


def evaluate_batch(config: ConfigDict, setting: Setting, params, frozen, batch) -> Metrics:
    """Metrics of one held-out batch as (sum, count) pairs, which add up over batches; deterministic, to be jitted.

    Args:
      config: of the objective (masked_lm, distill or codir) that the student was, or is being, trained with.
      setting: of head "masked_lm". Its teacher may be None; with one, frozen must have it, whatever the objective.
      params: of the objective, {"student", ...}.
      frozen: of the objective, {"teacher", ...}; {} without a teacher.
      batch: of a corpus: see `data.batch`.

    Returns:
      masked_lm_loss (nats per masked token) and masked_accuracy; with a teacher also
      teacher_kl: KL(teacher || student) at temperature 1, nats per masked token; teacher_agreement: share of masked
        tokens of equal first choice; teacher_masked_lm_loss, teacher_masked_accuracy: the teacher's own;
      retrieval_rate: share of examples whose student view is nearer to the teacher view of the same text than to those
        of the batch's other texts, under the method's trained projections; for a method that has them;
      retrieval_rate_unprojected: the same by the cosine of mean-pooled states of the "uniform" layer matches, each
        layer standardised, all concatenated; for a student of its teacher's width and at most its depth;
      hard_retrieval_rate_unprojected: the same among the texts of the same document only; where the batch has
        document_ids.
    """
    head = setting.head
    student = head.run(setting.student, params["student"], batch)
    labels, weights = batch["masked_labels"], batch["masked_weights"]
    own = head.view(student.states, params["student"])
    if setting.teacher is None:
        return _of_labels("", vocabulary_terms(own, labels, chunk_size=config.vocab_chunk_size), weights)
    head.check_pair(setting.student, setting.teacher)
    teacher = head.run(setting.teacher, frozen["teacher"], batch)
    theirs = head.view(teacher.states, frozen["teacher"])
    terms = vocabulary_terms(own, labels, theirs, temperature=1.0, chunk_size=config.vocab_chunk_size)
    of_teacher = vocabulary_terms(theirs, labels, chunk_size=config.vocab_chunk_size)
    return {
        **_of_labels("", terms, weights),
        **_of_labels("teacher_", of_teacher, weights),
        "teacher_kl": masked_sum(terms.soft_target, weights),
        "teacher_agreement": masked_sum(terms.agrees, weights),
        **_projected(config, setting, params, frozen, batch, student, teacher),
        **_unprojected(setting, batch, student, teacher),
    }


def _of_labels(side, terms, weights) -> Metrics:
    return {
        f"{side}masked_lm_loss": masked_sum(terms.cross_entropy, weights),
        f"{side}masked_accuracy": masked_sum(terms.is_correct, weights),
    }


def _projected(config, setting, params, frozen, batch, student, teacher) -> Metrics:
    projections = {**frozen, **params}
    if "projection_student" not in projections:
        return {}
    pairs = matches(config, setting)
    features = {}
    for side, output, layers in zip(("student", "teacher"), (student, teacher), zip(*pairs, strict=True), strict=True):
        pooled = pool(output.hidden_states, layers, batch["attention_mask"], config.pooling)
        features[side] = project(projections[f"projection_{side}"], pooled, config)
    return {"retrieval_rate": _rate(features, batch, _is_other_text(batch))}


def _unprojected(setting, batch, student, teacher) -> Metrics:
    own, theirs = setting.student.config, setting.teacher.config
    if own.hidden_size != theirs.hidden_size or own.num_layers > theirs.num_layers:
        return {}
    pairs = match_layers("uniform", theirs.num_layers, own.num_layers)
    features = {}
    for side, output, layers in zip(("student", "teacher"), (student, teacher), zip(*pairs, strict=True), strict=True):
        pooled = standardized(pool(output.hidden_states, layers, batch["attention_mask"], "mean"))
        features[side] = contrastive.unit_rows(pooled.reshape(pooled.shape[0], 1, -1))
    is_other = _is_other_text(batch)
    rates = {"retrieval_rate_unprojected": _rate(features, batch, is_other)}
    if "document_ids" in batch:
        documents = batch["document_ids"]
        is_hard = is_other & (documents[:, None] == documents) & (documents[:, None] >= 0)
        rates["hard_retrieval_rate_unprojected"] = _rate(features, batch, is_hard)
    return rates


def _is_other_text(batch) -> jax.Array:
    """Bool [batch, batch]: rows of another text, padding left out."""
    nothing = jnp.zeros_like(batch["text_ids"])
    return in_batch.false_negative_mask(
        nothing, batch["text_ids"], batch["example_mask"], nothing, mask_same_label=False, mask_same_text=True
    )


def _rate(features, batch, usable):
    """(sum, count) of examples whose own teacher view beats the usable ones.

    Args:
      features: {"student", "teacher": unit float32 [batch, groups, dim]}.
    """
    live = jnp.einsum("bgd,bgd->bg", features["student"], features["teacher"])
    rows = gather_batch(features["teacher"])
    cosines = jax.vmap(in_batch.score_matrix, in_axes=1, out_axes=1)(features["student"], rows)
    return retrieval(live, [(cosines, usable)], batch["example_mask"])[1]
