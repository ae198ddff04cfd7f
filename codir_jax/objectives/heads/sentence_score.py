"""A model that gives a whole sentence one number, to choose among candidates."""

import dataclasses

import jax
import jax.numpy as jnp

from codir_jax.losses.vocabulary import Decoder
from codir_jax.models.apply import apply_model
from codir_jax.models.language_model import decoder
from codir_jax.models.outputs import LanguageModelOutput
from codir_jax.models.weights import rows
from codir_jax.objectives.contract import Setting
from codir_jax.objectives.heads.language_model import LanguageModel, cross_entropy
from codir_jax.objectives.microbatches import run_student
from codir_jax.objectives.texts import each_text


@dataclasses.dataclass(frozen=True)
class SentenceScore(LanguageModel):
    """As a language model, of texts that are read apart from each other."""

    name: str = dataclasses.field(default="sentence_score", init=False)

    def run(self, model, params, batch, rng=None):
        """`models.outputs.LanguageModelOutput` of every text of every row, states float [rows T, length, hidden]."""
        return apply_model(model, params, each_text(batch), rng, method="states")

    def terms(self, config, batch, student, teacher=None):
        """Of no method: what a score is trained by is the method."""
        raise ValueError("a sentence score has no loss of its own")


def sentence_scores(model, params, batch, chunk_size: int = 0) -> jax.Array:
    """The scores of the texts of a batch by a model without dropout, as of `scores_in`: float32 [rows, T], nats."""
    return scores_in(SentenceScore().run(model, params, batch), model, params, batch, chunk_size)


def scores_in(output: LanguageModelOutput, model, params, batch, chunk_size: int = 0) -> jax.Array:
    """The score of each text, float32 [rows, T], nats: the sum over its words and its end of

        ln softmax(V c_t + d)_{w_t}     of a normalised model: ln P, or a pseudo-likelihood where c_t is two-sided;
        v_{w_t} . c_t + d_{w_t}         of an unnormalised one; d has a number for ln Z in it.

    ln q of a residual model is not in it.

    Args:
      output: of the model on the batch.
      model: Linen module with this head; its config says which of both.
      batch: of `data.batch.SENTENCE_COLUMNS`.
      chunk_size: words of a normalised model whose logits exist at a time; 0: all.
    """
    states = Decoder(output.states, *decoder(params))
    num_rows, num_texts, length = batch["next_ids"].shape
    next_ids = batch["next_ids"].reshape(-1, length)
    found = word_logits(states, next_ids) if model.config.unnormalised else -cross_entropy(states, next_ids, chunk_size)
    mask = batch["attention_mask"].reshape(-1, length)
    return jnp.sum(found * mask, axis=-1).reshape(num_rows, num_texts)


def scores_in_microbatches(setting: Setting, params, batch, rng: jax.Array | None) -> jax.Array:
    """The scores by the student of a setting, with the rng's dropout, in its microbatches."""

    def read(output, part):
        return scores_in(output, setting.student, params, part)

    return run_student(setting, params, batch, rng, read)


def word_logits(states: Decoder, ids: jax.Array) -> jax.Array:
    """v_w . c + d_w of one word a position, float32 [...], of int32 [...] ids: no logits of other words are made."""
    words = rows(states.table, ids, "vocab").astype(states.states.dtype)
    return jnp.sum((states.states * words).astype(jnp.float32), axis=-1) + states.bias[ids]
