"""A model that gives a whole sentence one number, to choose among candidates."""

import dataclasses

import jax
import jax.numpy as jnp

from codir_jax.losses.vocabulary import Decoder
from codir_jax.models.apply import apply_model
from codir_jax.models.language_model import decoder
from codir_jax.models.outputs import LanguageModelOutput
from codir_jax.models.texts_in_line import TextsInLine
from codir_jax.models.weights import rows
from codir_jax.objectives.contract import Setting
from codir_jax.objectives.heads.language_model import LanguageModel, cross_entropy
from codir_jax.objectives.microbatches import run_student
from codir_jax.objectives.texts import each_text
from codir_jax.sharding.rules import constrain


@dataclasses.dataclass(frozen=True)
class SentenceScore(LanguageModel):
    """As a language model, of texts that are read apart from each other."""

    name: str = dataclasses.field(default="sentence_score", init=False)

    def run(self, model, params, batch, rng=None):
        """`models.outputs.LanguageModelOutput` of the lines of `in_lines`: states float [lines, length, hidden]."""
        more = {"texts": TextsInLine(batch["begins"], batch["lengths"])} if "begins" in batch else {}
        return apply_model(model, params, each_text(batch), rng, method="states", **more)

    def terms(self, config, batch, student, teacher=None):
        """Of no method: what a score is trained by is the method."""
        raise ValueError("a sentence score has no loss of its own")


def sentence_scores(model, params, batch, chunk_size: int = 0) -> jax.Array:
    """The score of each text by a model without dropout, float32 [rows, T], nats: the sum over its words and its end of

        ln softmax(V c_t + d)_{w_t}     of a normalised model: ln P, or a pseudo-likelihood where c_t is two-sided;
        v_{w_t} . c_t + d_{w_t}         of an unnormalised one; d has a number for ln Z in it.

    ln q of a residual model is not in it.

    Args:
      model: Linen module with this head; its config says which of both.
      batch: of `data.batch.SENTENCE_COLUMNS`.
      chunk_size: words of a normalised model whose logits exist at a time; 0: all.
    """
    lines = in_lines(batch)
    output = SentenceScore().run(model, params, lines)
    return _sums_of_texts(_of_words(output, model, params, lines, chunk_size), batch)


def scores_in_microbatches(setting: Setting, params, batch, rng: jax.Array | None) -> jax.Array:
    """The scores by the student of a setting, with the rng's dropout, in its microbatches."""

    def read(output, part):
        return _of_words(output, setting.student, params, part)

    return _sums_of_texts(run_student(setting, params, in_lines(batch), rng, read), batch)


def in_lines(batch) -> dict[str, jax.Array]:
    """The texts of a batch as the model reads them, int32 [lines, length]: one a line, or packed as `places` says."""
    length = batch["input_ids"].shape[-1]
    lines = {name: batch[name].reshape(-1, length) for name in ("input_ids", "attention_mask", "next_ids")}
    if "places" in batch:
        lengths, flat = lines["attention_mask"].sum(axis=1), {name: one.reshape(-1) for name, one in lines.items()}
        places, is_token = jnp.maximum(batch["places"], 0), batch["places"] >= 0
        lines = {name: jnp.where(is_token, one[places], 0) for name, one in flat.items()}
        lines["begins"] = jnp.where(is_token, jnp.arange(length) - places % length, jnp.arange(length))
        lines["lengths"] = lengths[places // length]
        lines = {name: constrain(one, "batch") for name, one in lines.items()}
    return lines | {"token_type_ids": jnp.zeros_like(lines["input_ids"])}


def _of_words(output: LanguageModelOutput, model, params, lines, chunk_size: int = 0) -> jax.Array:
    """The summand of each position of the lines, float32 [lines, length]; 0 on padding."""
    states, next_ids = Decoder(output.states, *decoder(params)), lines["next_ids"]
    found = word_logits(states, next_ids) if model.config.unnormalised else -cross_entropy(states, next_ids, chunk_size)
    return jnp.where(lines["attention_mask"] > 0, found, 0.0)


def _sums_of_texts(found: jax.Array, batch) -> jax.Array:
    """Sums over the positions of each text, float32 [rows, T]."""
    num_rows, num_texts, length = batch["input_ids"].shape
    if "places" not in batch:
        return found.sum(axis=-1).reshape(num_rows, num_texts)
    texts = jnp.where(batch["places"] >= 0, batch["places"] // length, num_rows * num_texts)
    sums = jax.ops.segment_sum(found.reshape(-1), texts.reshape(-1), num_rows * num_texts)  # padding has no text
    return constrain(sums.reshape(num_rows, num_texts), "batch")


def word_logits(states: Decoder, ids: jax.Array) -> jax.Array:
    """v_w . c + d_w of one word a position, float32 [...], of int32 [...] ids: no logits of other words are made."""
    words = rows(states.table, ids, "vocab").astype(states.states.dtype)
    return jnp.sum((states.states * words).astype(jnp.float32), axis=-1) + states.bias[ids]
