"""The next word told from words drawn by their frequencies: training without a sum over the vocabulary.

    L = (1 / rows) sum over rows and tokens of the noise-contrastive loss of s = v_w . h + b_w - norm

with k noise words that the whole batch shares: a matrix product with k rows of the decoder in the place of V (Zoph et
al., "Simple, Fast Noise-Contrastive Estimation for Large RNN Vocabularies", NAACL 2016; Mnih & Teh, arXiv 1206.6426).
`sampled_softmax` is the control with the same samples. b starts at ln q + norm, so that a score begins as ln q. The
noise is drawn on the devices, from the step's rng; it has no row of the batch of its own, unlike that of sentences.

The model is judged as any: with the full softmax. How far its scores are a distribution by themselves is told as the
mean and standard deviation of ln Z_h on the batch, over `num_normalisers` of its positions.
"""

import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.losses.nce import nce, sampled_softmax, word_scores
from codir_jax.models.language_model import decoder
from codir_jax.models.products import product
from codir_jax.models.weights import rows as rows_of
from codir_jax.models.weights import transposed
from codir_jax.negatives import unigram
from codir_jax.objectives import language_model
from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.language_model import per_row
from codir_jax.objectives.sums import masked_sum
from codir_jax.processes.fields import defaults, field

HEADS, ROLES = ("language_model",), ("student",)

LOSSES = {"nce": nce, "sampled_softmax": lambda scores, log_noise, num_noise: sampled_softmax(scores, log_noise)}


FIELDS = {
    "name": field("word_nce", "the method, a file of codir_jax/objectives"),
    "loss": field("nce", "what is minimised over the samples", words=tuple(LOSSES)),
    "num_noise": field(100, "k, noise words for the whole batch", at_least=1, at_most=10_000_000),
    # What stands for ln Z; 9 is usual for 10,000 words.
    "norm": field(0.0, "the logarithm of the normaliser; 0: ln V", at_least=-1e4, at_most=1e4),
    "num_normalisers": field(16, "positions of a batch at which ln Z_h is measured", at_least=0, at_most=10_000_000),
}


def default_config() -> ConfigDict:
    """Fields of the method."""
    return ConfigDict(defaults(FIELDS))


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective of the module's docstring."""
    vocab_size = setting.student.config.vocab_size
    norm = config.norm or math.log(vocab_size)
    # Before the text is opened nothing is drawn: any distribution has the right shapes.
    frequencies = jnp.ones(vocab_size) / vocab_size if setting.unigram is None else setting.unigram
    plain = language_model.make(language_model.default_config(), setting)

    def init(rng, batch):
        params, _, state = plain.init(rng, batch)
        log_q = jnp.log(jnp.asarray(frequencies, jnp.float32))
        bias = jax.tree.map(lambda _: log_q + norm, params["student"]["output_bias"])
        return {"student": params["student"] | {"output_bias": bias}}, {}, state

    table, log_q = unigram.alias_table(frequencies), jnp.log(jnp.asarray(frequencies, jnp.float32))

    def loss(params, frozen, objective_state, batch, step: Step):
        del frozen
        student = params["student"]
        states, carry = language_model.read(setting, student, batch, objective_state["carry"], step.rng)
        # Without an rng there is nothing random: the noise is that of a fixed key.
        rng = jax.random.key(0) if step.rng is None else jax.random.fold_in(step.rng, 1)
        noise = unigram.draw(rng, table, config.num_noise)
        weights, bias = decoder(student)
        rows = [
            (rows_of(weights, batch["next_ids"], "vocab"), bias[batch["next_ids"]]),
            (rows_of(weights, noise, None), bias[noise]),
        ]
        of_target = log_q[batch["next_ids"]][..., None]
        log_noise = jnp.concatenate(
            [of_target, jnp.broadcast_to(log_q[noise], (*of_target.shape[:-1], config.num_noise))], axis=-1
        )
        losses = LOSSES[config.loss](word_scores(states, *rows, norm), log_noise, config.num_noise)
        total = masked_sum(losses, batch["attention_mask"])
        metrics = {"word_nce_loss": total, **_normalisers(states, (weights, bias), batch, norm, config.num_normalisers)}
        return per_row(total[0], batch), ({"carry": carry}, metrics)

    return Objective(init, loss, cost=no_cost)


def _normalisers(states, weights, batch, norm, num):
    """Mean of ln Z_h and of its square, for its standard deviation, at the last position of the first rows."""
    if not num:
        return {}
    num = min(num, states.shape[0])
    last, mask = jax.lax.stop_gradient(states[:num, -1]), batch["attention_mask"][:num, -1]
    table, bias = jax.lax.stop_gradient(weights)
    log_z = jax.nn.logsumexp(product(last.astype(jnp.float32), transposed(table)) + bias - norm, axis=-1)
    return {"ln_z": masked_sum(log_z, mask), "ln_z_squared": masked_sum(log_z**2, mask)}
