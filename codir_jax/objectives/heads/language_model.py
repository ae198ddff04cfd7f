"""A language model: the states before its decoder at every position, each of which predicts the token after it."""

import dataclasses

import jax
import optax

from codir_jax.compression import factors
from codir_jax.linalg.logits import logits
from codir_jax.losses import distillation
from codir_jax.losses.vocabulary import Decoder, vocabulary_terms
from codir_jax.models.apply import apply_model
from codir_jax.models.language_model import decoder
from codir_jax.models.products import product
from codir_jax.models.weights import transposed
from codir_jax.objectives.contract import HeadTerms
from codir_jax.objectives.heads.masked_lm import check_one_vocabulary
from codir_jax.objectives.sums import masked_sum
from codir_jax.processes.fields import field

# Of every objective that serves language models.
FIELDS = {
    # All at once is a third faster (their logits are kept for the backward pass), and 16 MB at 400 tokens and 10,000
    # words.
    "vocab_chunk_size": field(
        0, "words of a language model whose logits exist at a time; 0: all", at_least=0, at_most=100_000_000
    ),
}


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """It has no labels of its own."""

    name: str = dataclasses.field(default="language_model", init=False)
    kept: str = dataclasses.field(default="states", init=False)
    num_labels: int = dataclasses.field(default=0, init=False)

    def run(self, model, params, batch, rng=None):
        """`models.outputs.LanguageModelOutput`, states float [batch, length, hidden], without logits.

        The state before the first token is `batch["carry"]`; without it, zeros.
        """
        return apply_model(model, params, batch, rng, carry=batch.get("carry"), method="states")

    def view(self, values, params) -> Decoder:
        """The states with the decoder in the model's weights."""
        return Decoder(values, *decoder(params))

    def terms(self, config, batch, student, teacher=None) -> HeadTerms:
        """Cross entropy of the next tokens and, with a teacher, soft targets; sums, see `objectives.language_model`."""
        next_ids, mask, size = batch["next_ids"], batch["attention_mask"], config.vocab_chunk_size
        if teacher is None:
            task = masked_sum(cross_entropy(student, next_ids, size), mask)
            return HeadTerms(task, None, {"language_model_loss": task})
        task, soft = (
            masked_sum(x, mask) for x in taught(student, teacher, next_ids, config.soft_target_temperature, size)
        )
        return HeadTerms(task, soft, {"language_model_loss": task, "soft_target_loss": soft})

    def in_training(self, params):
        """The weights: a step has them as a folder does."""
        return params

    as_served = in_training

    def check_pair(self, student, teacher) -> None:
        """Refuses a teacher of another vocabulary.

        Raises:
          UserError: both sizes.
        """
        check_one_vocabulary(student, teacher)


def cross_entropy(states: Decoder, next_ids: jax.Array, chunk_size: int = 0) -> jax.Array:
    """-ln P(next token), float32 [...], nats, of int32 [...] ids; `chunk_size` as in the config."""
    if chunk_size and not factors.are_in(states.table):
        return vocabulary_terms(states, next_ids, chunk_size=chunk_size).cross_entropy
    nats = optax.softmax_cross_entropy_with_integer_labels(_scores(states), next_ids.reshape(-1))
    return nats.reshape(next_ids.shape)


def taught(
    student: Decoder, teacher: Decoder, next_ids: jax.Array, temperature: float, chunk_size: int = 0
) -> tuple[jax.Array, jax.Array]:
    """(-ln P(next token), T^2 KL(teacher || student)), both float32 [...], nats; the rest as `cross_entropy`."""
    if chunk_size and not factors.are_in(student.table):
        terms = vocabulary_terms(student, next_ids, teacher, temperature=temperature, chunk_size=chunk_size)
        return terms.cross_entropy, terms.soft_target
    scores = _scores(student)
    nats = optax.softmax_cross_entropy_with_integer_labels(scores, next_ids.reshape(-1))
    soft = distillation.soft_target_loss(scores, _scores(teacher), temperature)
    return nats.reshape(next_ids.shape), soft.reshape(next_ids.shape)


def _scores(states: Decoder) -> jax.Array:
    """Logits of every position, float32 [positions, vocab]."""
    if factors.are_in(states.table):
        scores = product(states.states, transposed(states.table)).astype("float32")
    else:
        scores = logits(states.states, states.table)
    return (scores + states.bias).reshape(-1, states.bias.shape[0])
