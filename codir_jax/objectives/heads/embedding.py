"""A sentence encoder: one vector a text, of any norm."""

import dataclasses

from codir_jax.models.apply import apply_model
from codir_jax.objectives.contract import HeadTerms, each_text
from codir_jax.processes.user_error import UserError


def default_config() -> dict:
    """No field of an objective is of sentence encoders alone."""
    return {}


@dataclasses.dataclass(frozen=True)
class Embedding:
    """It has no labels of its own."""

    name: str = dataclasses.field(default="embedding", init=False)
    kept: str = dataclasses.field(default="vectors", init=False)
    num_labels: int = dataclasses.field(default=0, init=False)

    def run(self, model, params, batch, rng=None):
        """`models.outputs.EmbeddingOutput` of all texts in one pass.

        Vectors are float32 [batch, hidden], or [batch, T, hidden] of a batch with T texts a row.
        """
        output = apply_model(model, params, each_text(batch), rng)
        return output.replace(vectors=output.vectors.reshape(*batch["input_ids"].shape[:-1], -1))

    def view(self, values, params):
        """The vectors."""
        del params
        return values

    def terms(self, config, batch, student, teacher=None) -> HeadTerms:
        """Refuses: what is lost or won by a vector is told by its neighbours, so its objectives make their own terms.

        Raises:
          UserError: always.
        """
        raise UserError(f"objective.name={config.name!r} has no term for the vectors of a sentence encoder")

    def in_training(self, params):
        """The weights: a step has them as a folder does."""
        return params

    as_served = in_training

    def check_pair(self, student, teacher) -> None:
        """Any two sentence encoders go together."""
