"""Adam, AdamW and SGD with warm-up, decay of the rate, clipping, and rules by parameter path, from the config."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from codir_jax.config import steps_of_epochs
from codir_jax.models.products import GRADIENT_DTYPES
from codir_jax.objectives.schedules import parse_schedule, scheduled
from codir_jax.processes import fields
from codir_jax.processes.fields import MAX_STEPS, defaults, field
from codir_jax.processes.user_error import UserError
from codir_jax.training import parameter_rules
from codir_jax.training.parameter_rules import Pairs

NAMES = ("adamw", "adam", "sgd")
SCHEDULES = ("linear", "cosine", "constant", "per_epoch", "points")


_WARMUP = "steps in which the rate rises from 0, in exactly one unit"
FIELDS = {
    # "adam" is fairseq's Adam as in the released code, see scale_by_fairseq_adam.
    "name": field("adamw", "how the gradient becomes an update", words=NAMES),
    "learning_rate": field(5e-5, "peak of the rate", above=0, at_most=1e3),
    # Wide models want low rates: with 768, a model of 384 features takes twice learning_rate.
    "of_width": field(
        0, "hidden size that learning_rate is for; 0: all take it as it is", at_least=0, at_most=1_000_000
    ),
    "b1": field(0.9, "decay of the first moment, of the two Adams", at_least=0, below=1),
    "b2": field(0.999, "decay of the second moment, of the two Adams", at_least=0, below=1),
    "eps": field(1e-8, "added to the root of the second moment", above=0, at_most=1),
    "momentum": field(0.0, "of sgd: m <- momentum * m + gradient; 0: none", at_least=0, below=1),
    # Decoupled: p <- p - rate * weight_decay * p; of matrices, by parameter_rules.
    "weight_decay": field(0.01, "decoupled decay of the weights", at_least=0, at_most=1e3),
    "decay_bias_and_norm": field(False, "whether biases and norm scales decay too; fairseq does"),
    # "PATTERN: frozen" or "PATTERN: rate=2 decay=0.01" (rate multiplies the learning rate), every parameter in exactly
    # one pattern; see parameter_rules. Empty: all alike.
    "rules": field((), "what holds for which parameters", each=field("", "PATTERN: RULE"), reads=parameter_rules.parse),
    # After the warm-up: "linear" or "cosine" to end_share; "constant"; "per_epoch"; "points".
    "schedule": field("linear", "how the rate falls", words=SCHEDULES),
    # Linear between them; a share of the run that comes twice is a jump, such as where a term of the loss joins
    # (objective.head_from): "0%:1 75%:0.2 75%:1 100%:0".
    "points": field("0%:1 100%:0", "of points: shares of the peak over the run", reads=parse_schedule),
    "end_share": field(0.0, "of the peak at the end, of linear and cosine", at_least=0, at_most=1),
    # From there on the rate has the factor epoch_decay ** (whole epochs since).
    "epoch_decay_start": field(6.0, "of per_epoch, in epochs", at_least=0, at_most=1e6),
    "epoch_decay": field(0.8, "of per_epoch: factor of the rate, once an epoch", above=0, at_most=1),
    "warmup_steps": field(-1, _WARMUP, at_least=0, at_most=MAX_STEPS, also=(-1,)),
    "warmup_epochs": field(-1.0, _WARMUP, at_least=0, at_most=1e6, also=(-1,)),
    "warmup_percent": field(6.0, _WARMUP, at_least=0, at_most=100, also=(-1,)),
    "clip_norm": field(1.0, "largest norm of the global gradient; 0: no clipping", at_least=0, at_most=1e9),
    # Where student.dtype is bfloat16: "bfloat16" sends half and keeps 8 bits. All other gradients are float32.
    "gradient_dtype": field("float32", "of the gradients of kernels and their sum over devices", words=GRADIENT_DTYPES),
}


def default_config() -> ConfigDict:
    """Fields of the optimizer."""
    return ConfigDict(defaults(FIELDS))


def check(config: ConfigDict) -> None:
    """Refuses impossible values before anything is computed."""
    fields.check(FIELDS, config, "optimizer")
    if config.momentum and config.name != "sgd":
        raise UserError(
            f"optimizer.momentum={config.momentum} is of sgd; with {config.name!r} set b1 and leave it at 0"
        )


def for_width(config: ConfigDict, hidden_size: int) -> ConfigDict:
    """The config with the learning rate of a model of that hidden size: in inverse proportion, where `of_width` is set.

    The rule of Yang et al., "Tensor Programs V", 2022, for the matrices of a wider model under Adam.
    """
    if not config.of_width:
        return config
    scaled = config.copy_and_resolve_references()
    scaled.update({"learning_rate": config.learning_rate * config.of_width / hidden_size, "of_width": 0})
    return scaled


def make_schedule(
    config: ConfigDict, num_steps: int, warmup_steps: int, steps_per_epoch: int | None = None
) -> optax.Schedule:
    """Learning rate by step: linear from 0 over `warmup_steps`, then by `config.schedule`:

        linear, cosine: from the peak to end_share * peak at `num_steps`
        constant:       peak
        per_epoch:      peak * epoch_decay ** max(floor((step - epoch_decay_start * E) / E), 0),  E = steps_per_epoch
        points:         peak * config.points at step / num_steps

    Epochs are counted from the first step of the run, warm-up included: with a start of 5 epochs the first 6 have the
    peak, and the seventh peak * epoch_decay.

    Args:
      config: of the optimizer.
      num_steps: length of the run.
      warmup_steps: of these; 0 for none.
      steps_per_epoch: what per_epoch needs; the others do not look at it.
    """
    peak, end = config.learning_rate, config.learning_rate * config.end_share
    decay_steps = max(num_steps - warmup_steps, 1)
    decay = {
        "linear": lambda: optax.linear_schedule(peak, end, decay_steps),
        "cosine": lambda: optax.cosine_decay_schedule(peak, decay_steps, config.end_share),
        "constant": lambda: optax.constant_schedule(peak),
        "per_epoch": lambda: _per_epoch(config, warmup_steps, steps_per_epoch),
        "points": lambda: lambda step: peak * scheduled(config.points, (step + warmup_steps) / num_steps),
    }[config.schedule]()
    warmup = optax.linear_schedule(0.0, peak, max(warmup_steps, 1))
    return optax.join_schedules([warmup, decay], [warmup_steps]) if warmup_steps else decay


def _per_epoch(config: ConfigDict, warmup_steps: int, steps_per_epoch: int | None) -> optax.Schedule:
    """The rate by the steps since the warm-up."""
    if steps_per_epoch is None:
        raise ValueError("schedule 'per_epoch' needs steps_per_epoch")
    start = steps_of_epochs(config.epoch_decay_start, steps_per_epoch)

    def rate(since_warmup):
        # In integers: a float32 quotient of two steps can fall on the wrong side of an epoch's end.
        num_epochs = jnp.maximum(since_warmup + warmup_steps - start, 0) // steps_per_epoch
        return config.learning_rate * config.epoch_decay**num_epochs

    return rate


class Optimizer(NamedTuple):
    """An optax transformation that knows the parameters that it trains.

    init(params) -> opt_state: nothing is kept of frozen parameters: `optax.MaskedNode` stands in their place.
    update(grads, opt_state, params, *, step) -> (updates, opt_state): `step`, int32 scalar, is the number of finished
      steps of the run, which the learning rate follows; the update of a frozen parameter is 0.
    trained(params) -> tree of bool like the parameters.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]
    trained: Callable[[Any], Any]


def make_optimizer(config: ConfigDict, schedule: optax.Schedule, pairs: Pairs | None = None) -> Optimizer:
    """Clip, Adam or SGD, decoupled decay, rate. With gradient g, parameter p, at step s (the first is 0):

        g <- g * min(1, clip_norm / ||g||),  the norm over all trained parameters
        u <- Adam(g),  or m <- momentum * m + g and u <- m
        p <- p - rule.rate * schedule(s) * (u + decay * p)

    After a skipped update `s` goes on, as it is the step of the run, and Adam's count does not.

    Args:
      config: of the optimizer.
      schedule: learning rate by step.
      pairs: (pattern, `parameter_rules.Rule` or None for frozen) instead of those of `config.rules`.

    Raises:
      UserError: bad config; and from `init`, also under `jax.eval_shape`, that of `parameter_rules.check_coverage`.
    """
    check(config)
    pairs = parameter_rules.parse(config.rules) if pairs is None else tuple(pairs)
    parameter_rules.check(pairs)
    chain = optax.chain(
        clip(config.clip_norm) if config.clip_norm else optax.identity(),
        _scale(config),
        _add_decay(config, pairs),
        scale_by_rate_of_step(schedule, pairs),
    )

    def trained(params):
        return parameter_rules.trained(pairs, params)

    def init(params):
        parameter_rules.check_coverage(pairs, params)
        return chain.init(_only(params, trained(params)))

    def update(grads, state, params, *, step=None):
        mask = trained(params)
        updates, state = chain.update(_only(grads, mask), state, _only(params, mask), step=step)
        return jax.tree.map(lambda t, g, u: u if t else jnp.zeros_like(g), mask, grads, updates), state

    return Optimizer(init, update, trained)


def of_optax(tx: optax.GradientTransformation) -> Optimizer:
    """Any optax transformation as an optimizer that trains every parameter; it counts its steps itself."""
    tx = optax.with_extra_args_support(tx)
    return Optimizer(tx.init, tx.update, lambda params: jax.tree.map(lambda _: True, params))


def clip(limit: float) -> optax.GradientTransformation:
    """g <- g * min(1, limit / ||g||), the norm over all parameters: one factor, which fuses into the loops of Adam.

    optax.clip_by_global_norm divides each element; XLA does not repeat divisions, and writes all quotients to memory.
    """

    def update(updates, state, params=None):
        del params
        factor = jnp.minimum(1.0, limit / optax.global_norm(updates))
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def scale_by_rate_of_step(schedule: optax.Schedule, pairs: Pairs) -> optax.GradientTransformationExtraArgs:
    """u <- -rule.rate * schedule(step) * u, with the `step` that `update` is given; it has no state.

    optax.scale_by_learning_rate counts the updates itself, so that after a skipped one its rate is another step's.
    """

    def update(updates, state, params=None, *, step=None, **_):
        del params
        if step is None:
            raise TypeError("update needs step=state.step: the learning rate is a function of the step of the run")
        size = -1 * schedule(step)

        def scale(rule, path, update):
            of_rule = size if rule.rate == 1 else rule.rate * size
            return jnp.array(of_rule, dtype=update.dtype) * update

        return parameter_rules.map_rules(pairs, scale, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _scale(config: ConfigDict) -> optax.GradientTransformation:
    if config.name == "sgd":
        return optax.trace(config.momentum) if config.momentum else optax.identity()
    adam = {"adamw": optax.scale_by_adam, "adam": scale_by_fairseq_adam}[config.name]
    return adam(b1=config.b1, b2=config.b2, eps=config.eps)


def _add_decay(config: ConfigDict, pairs: Pairs) -> optax.GradientTransformation:
    """u <- u + decay * p."""
    options = {"default": config.weight_decay, "decays_bias_and_norm": config.decay_bias_and_norm}

    def add(rule, path, update, param):
        decay = parameter_rules.decay_of(rule, path, param.ndim, **options)
        return update + decay * param if decay else update

    def update(updates, state, params):
        return parameter_rules.map_rules(pairs, add, updates, params), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _only(tree: Any, mask: Any) -> Any:
    """The tree with `optax.MaskedNode`, which has no leaves, where the mask is False."""
    return jax.tree.map(lambda t, leaf: leaf if t else optax.MaskedNode(), mask, tree)


class FairseqAdamState(NamedTuple):
    """count: int32 scalar; mu, nu: first and second moments, float32 trees like the parameters."""

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates


def scale_by_fairseq_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam with eps beside the uncorrected second moment, as fairseq (and the released CoDIR) computes it.

        update = sqrt(1 - b2^t) / (1 - b1^t) * mu / (sqrt(nu) + eps)

    optax and torch add eps after the correction, which at b2 = 0.98 and t = 1 is a seventh of the effect.
    """

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return FairseqAdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        size = jnp.sqrt(1 - b2**count) / (1 - b1**count)
        updates = jax.tree.map(lambda m, v: size * m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, FairseqAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
