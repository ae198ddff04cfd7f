"""A sentence encoder: one vector a text, of any norm.

Its teacher's targets, for objectives that distil it, are vectors too:

    task    the teacher's vector of the text: 1 - cosine, or the squared distance
    soft    which texts the teacher finds near: KL of the softmax of <t_i, t_k> / tau from that of <s_i, t_k> / tau over
            the teacher's vectors t_k of the batch and of a queue of earlier batches (SEED, Fang et al., ICLR 2021)

with all vectors of norm 1. The teacher never changes, so no row of the queue is stale. A text that equals the anchor is
no key: it would be all that the distribution tells.
"""

import dataclasses

import jax
import jax.numpy as jnp

from codir_jax.losses import distillation
from codir_jax.losses.contrastive import unit_rows
from codir_jax.models.apply import apply_model
from codir_jax.negatives import in_batch, memory_bank
from codir_jax.objectives.contract import HeadTerms
from codir_jax.objectives.sums import masked_sum
from codir_jax.objectives.texts import each_text
from codir_jax.processes.fields import field
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import constrain, gather_batch, with_axes

VECTOR_LOSSES = {
    "cosine": lambda student, teacher: distillation.cosine_distance(student[..., None, :], teacher[..., None, :]),
    "l2": distillation.relative_l2,
}
QUEUE = "similarity_queue"


# Of every objective that distils sentence encoders: task_weight is then of their vectors, soft_target_weight of their
# similarities.
FIELDS = {
    # "cosine": 1 - cosine; "l2": squared distance / the teacher's squared norm.
    "vector_loss": field("cosine", "distance of a sentence encoder's vectors", words=tuple(VECTOR_LOSSES)),
    "similarity_temperature": field(0.2, "tau of the softmax over cosines", above=0, at_most=1e4),
    # The teacher's vectors of earlier batches that are keys too.
    "similarity_queue_size": field(4096, "kept vectors; 0: those of the batch only", at_least=0, at_most=10_000_000),
}


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

    def memory(self, config, width: int) -> dict:
        """The queue of the teacher's vectors, boxed with its logical axes."""
        if not config.similarity_queue_size:
            return {}
        queue = memory_bank.init_queue(config.similarity_queue_size, width)
        axes = {"rows": ("queue_rows", None), "head": ()}
        return {QUEUE: {name: with_axes(x, *axes.get(name, ("queue_rows",))) for name, x in queue.items()}}

    def terms(self, config, batch, student, teacher=None, memory=None) -> HeadTerms:
        """Distance to the teacher's vectors, and to its distribution over the other texts of batch and queue."""
        real = batch["example_mask"]
        task = masked_sum(VECTOR_LOSSES[config.vector_loss](student, teacher), real)
        student, teacher = unit_rows(student), jax.lax.stop_gradient(unit_rows(teacher))
        text_ids, is_real = constrain(batch["text_ids"]), constrain(real > 0)
        keys = gather_batch(teacher)

        def scores(anchors, rows):
            return [in_batch.score_matrix(of_side, rows) for of_side in anchors]

        usable = (batch["text_ids"][:, None] != text_ids) & is_real & (real > 0)[:, None]
        sources = [(*scores((student, teacher), keys), constrain(usable, "batch"))]
        new_memory = {}
        if QUEUE in memory:  # each device has everybody's anchors and its rows of the queue
            queue = memory[QUEUE]
            usable = (text_ids[:, None] != queue["text_ids"]) & queue["is_valid"] & is_real[:, None]
            anchors = gather_batch(student), keys
            sources.append((*scores(anchors, queue["rows"]), constrain(usable, None, "queue_rows")))
            new_memory[QUEUE] = memory_bank.push(queue, keys, jnp.full_like(text_ids, -1), text_ids, is_real)
        values, agrees = distillation.similarity_loss(sources, config.similarity_temperature)
        num_keys = sum(usable.sum(1) for _, _, usable in sources)
        soft = masked_sum(values, real)
        metrics = {
            "vector_loss": task,
            "similarity_loss": soft,
            "nearest_agreement": masked_sum(agrees, real * (num_keys > 0)),
            "num_keys": masked_sum(num_keys, real),
        }
        return HeadTerms(task, soft, metrics, new_memory)

    def check_distillation(self, config, rows) -> None:
        """Refuses rows of several texts.

        Raises:
          UserError: what came, and what to do.
        """
        if rows is not None and rows.texts_per_row > 1:
            raise UserError(
                f"the train rows have {rows.texts_per_row} texts each, and a sentence encoder is distilled text by "
                "text; set data.layout='sentences'"
            )

    def in_training(self, params):
        """The weights: a step has them as a folder does."""
        return params

    as_served = in_training

    def check_pair(self, student, teacher) -> None:
        """Refuses a student of another width, whose vectors cannot be compared.

        Raises:
          UserError: both widths, and what to do.
        """
        ours, theirs = (model.config.hidden_size for model in (student, teacher))
        if ours != theirs:
            raise UserError(
                f"the student's vectors have {ours} numbers, the teacher's {theirs}; a distilled sentence encoder is "
                "as wide as its teacher: set student.init='teacher' and student.num_layers"
            )
