"""A masked LM: the states before its decoder at the masked positions.

Terms are means over masked tokens: [positions, vocabulary] is made in `losses.vocabulary` only, in parts.
"""

import dataclasses

from codir_jax.losses.vocabulary import Decoder, vocabulary_terms
from codir_jax.models.apply import apply_model
from codir_jax.models.masked_lm import decoder
from codir_jax.objectives.contract import HeadTerms
from codir_jax.objectives.sums import masked_sum
from codir_jax.processes.fields import field
from codir_jax.processes.user_error import UserError

# Of every objective that serves masked LMs.
FIELDS = {
    # At 8192 a step of 512 positions over 30522 words, with a teacher, takes a fifth of the memory of all at once, and
    # no longer on a CPU.
    "vocab_chunk_size": field(
        8192, "words of a language model whose logits exist at a time; 0: all", at_least=0, at_most=100_000_000
    ),
}


@dataclasses.dataclass(frozen=True)
class MaskedLM:
    """It has no labels of its own."""

    name: str = dataclasses.field(default="masked_lm", init=False)
    kept: str = dataclasses.field(default="states", init=False)
    num_labels: int = dataclasses.field(default=0, init=False)

    def run(self, model, params, batch, rng=None, **more):
        """`models.outputs.MaskedLMOutput`, states float [batch, masked, hidden]; `more` as of `apply_model`."""
        return apply_model(model, params, batch, rng, positions=batch["masked_positions"], method="states", **more)

    def view(self, values, params) -> Decoder:
        """The states with the decoder in the model's weights."""
        return Decoder(values, *decoder(params))

    def terms(self, config, batch, student, teacher=None, memory=None) -> HeadTerms:
        """Cross entropy of the masked tokens and, with a teacher, soft targets over the vocabulary."""
        terms = vocabulary_terms(
            student,
            batch["masked_labels"],
            teacher,
            temperature=1.0 if teacher is None else config.soft_target_temperature,
            chunk_size=config.vocab_chunk_size,
        )
        weights = batch["masked_weights"]
        task = masked_sum(terms.cross_entropy, weights)
        metrics = {"masked_lm_loss": task, "masked_accuracy": masked_sum(terms.is_correct, weights)}
        if teacher is None:
            return HeadTerms(task, None, metrics)
        soft = masked_sum(terms.soft_target, weights)
        agree = masked_sum(terms.agrees, weights)
        return HeadTerms(task, soft, {**metrics, "soft_target_loss": soft, "teacher_agreement": agree})

    def memory(self, config, width: int) -> dict:
        """Nothing."""
        return {}

    def check_distillation(self, config, rows) -> None:
        """Its fields hold for any rows."""

    def in_training(self, params):
        """The weights: a step has them as a folder does."""
        return params

    as_served = in_training

    def check_pair(self, student, teacher) -> None:
        """Refuses a teacher of another vocabulary: there are no soft targets between the two.

        Raises:
          UserError: both sizes.
        """
        check_one_vocabulary(student, teacher)


def check_one_vocabulary(student, teacher) -> None:
    """Refuses two models of vocabularies of different sizes.

    Raises:
      UserError: both sizes.
    """
    ours, theirs = (model.config.vocab_size for model in (student, teacher))
    if ours != theirs:
        raise UserError(
            f"the student has a vocabulary of {ours}, the teacher of {theirs}; they must share one: give the student "
            "the teacher's tokenizer"
        )
