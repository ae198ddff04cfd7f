"""The regression of hidden states, the same for every method with a teacher.

    L_hidden = mean over texts of the mean over tokens and matched layers of a distance d(W s, t)

d: "l2", the squared distance of unit-length states (PKD, Sun et al. 2019), or "cosine" (DistilBERT, Sanh et al. 2019).
Token by token, or one pooled vector a text (PKD). W is the identity where student and teacher are equally wide, else a
linear map that is trained, one for all layers (TinyBERT, Jiao et al. 2020). Token by token the teacher runs live: its
states are too many to keep.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.losses import distillation
from codir_jax.models.pooling import standardized
from codir_jax.objectives import width_map
from codir_jax.objectives.contract import Setting
from codir_jax.objectives.schedules import parse_schedule
from codir_jax.objectives.sums import SumAndCount, masked_sum
from codir_jax.objectives.views import Pairs, Views, matches
from codir_jax.processes.fields import field

LOSSES = {"l2": distillation.normalized_l2, "cosine": distillation.cosine_distance}
# Entry of `params` with the map of a student of another width.
MAP = "hidden_map"


FIELDS = {
    # "l2" is the squared distance of unit-length states.
    "hidden_loss": field("none", "distance of hidden states", words=("none", *LOSSES)),
    # Of tokens 16 to 256 is usual: a distance of unit-length states is small.
    "hidden_weight": field(1.0, "w_hidden, weight of that distance", at_least=0, at_most=1e6),
    "hidden_schedule": field("constant", "multiplier of hidden_weight over the run", reads=parse_schedule),
    # "text": one pooled vector (see pooling), which a cache can keep; "token": every token.
    "hidden_unit": field("text", "whose states are compared", words=("text", "token")),
    "hidden_standardized": field(False, "each state first gets zero mean over its features"),
    "hidden_embeddings": field(False, "the embeddings are matched too, as layer 0 with layer 0"),
}


def is_on(config: ConfigDict) -> bool:
    """Whether there is such a term."""
    return config.hidden_loss != "none"


def pairs(config: ConfigDict, setting: Setting) -> Pairs:
    """(student layer, teacher layer) that are compared; () without the term."""
    if not is_on(config):
        return ()
    return (((0, 0),) if config.hidden_embeddings else ()) + matches(config, setting)


def init(rng: jax.Array, config: ConfigDict, setting: Setting) -> dict:
    """Entries of `params`: the map, where the widths differ."""
    ours, theirs = (model.config.hidden_size for model in (setting.student, setting.teacher))
    return {MAP: width_map.init(rng, ours, theirs)} if is_on(config) and ours != theirs else {}


def term(config: ConfigDict, setting: Setting, params, views: Views, batch) -> SumAndCount:
    """(sum over texts, texts) of the distance."""
    compared = pairs(config, setting)
    if config.hidden_unit == "token":
        ours = jnp.stack([views.student_tokens[layer] for layer, _ in compared], axis=2)
        theirs = jnp.stack([views.teacher_tokens[layer] for _, layer in compared], axis=2)
    else:
        ours, theirs = views.student_pooled[:, : len(compared)], views.teacher_pooled[:, : len(compared)]
    ours = width_map.apply(params.get(MAP), ours)
    if config.hidden_standardized:
        ours, theirs = standardized(ours), standardized(theirs)
    values = LOSSES[config.hidden_loss](ours, theirs)
    if config.hidden_unit == "token":
        values = mean_of_tokens(values, batch["attention_mask"])
    return masked_sum(values, batch["example_mask"])


def mean_of_tokens(values: jax.Array, attention_mask: jax.Array) -> jax.Array:
    """Float32 [batch]: mean of values [batch, tokens] over the real tokens of each text, 0 where there is none."""
    is_real = attention_mask.astype(jnp.float32)
    return (values * is_real).sum(-1) / jnp.maximum(is_real.sum(-1), 1.0)
