"""Training under compression: an objective whose student computes with pruned, coded or factored weights.

    codir train --config=... --config.compression.method=prune90+int4

The words are those of `compression.methods`, which compress a finished model at once. Here the model learns with them:

    rank, tt   the weights are factors from the start: of the weights that the student starts from, or drawn
    prune      weights and their gradients are masked; the sparsity grows between two times of the run
    int        the loss sees coded weights, the gradient goes straight through to the float ones

What is judged and saved has all of it, whatever the step: the final sparsity, and coded weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.compression import factors, methods, prune, quantize, tensor_train
from codir_jax.compression.methods import Step as Way
from codir_jax.models.weights import axes_of, in_boxes
from codir_jax.objectives.contract import Objective
from codir_jax.processes import fields
from codir_jax.processes.fields import MAX_STEPS, defaults, field
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules

STUDENT = "student"


def _parse(method: str) -> tuple[Way, ...]:
    """The steps of a method that a student is trained under; () of an empty one."""
    ways = methods.parse(method) if method else ()
    if any(way.kind == "units" for way in ways):
        raise UserError(
            f"compression.method={method!r}: units are left out of a finished model (codir compress --then), which is "
            "then trained as any other (student.path)"
        )
    return ways


# Of a student that is compressed while it is trained.
FIELDS = {
    # Of `compression.methods`, such as "prune90+int4" or "rank64"; empty: none.
    "method": field("", "how the weights are made smaller while they are trained", reads=_parse),
    "begin_percent": field(0.0, "of the run: from then on weights are pruned", at_least=0, at_most=100),
    # The rest of the run is for recovery.
    "end_percent": field(50.0, "of the run: the sparsity is the final one", at_least=0, at_most=100),
    "mask_every_steps": field(10, "which weights are pruned is decided so often", at_least=1, at_most=MAX_STEPS),
}


def default_config() -> ConfigDict:
    """Of a student that is compressed while it is trained."""
    return ConfigDict(defaults(FIELDS))


def check(config: ConfigDict) -> None:
    """Refuses what cannot be.

    Raises:
      UserError: a method or a time that is none.
    """
    fields.check(FIELDS, config, "compression")
    if not config.begin_percent <= config.end_percent:
        raise UserError(
            f"compression.begin_percent={config.begin_percent} and end_percent={config.end_percent}; expected "
            "begin <= end"
        )


def ways_of(config: ConfigDict) -> tuple[Way, ...]:
    """The steps of the method; () where there is none."""
    return _parse(config.method)


def start(params: Any, config: ConfigDict) -> Any:
    """The weights that a student starts from, numpy, with the factors that the method asks for; None stays None."""
    ways = [way for way in ways_of(config) if way.kind in ("rank", "tt")]
    return params if params is None or not ways else methods.tree_of(methods.compress(params, ways)[0])


def with_factors_of(objective: Objective, params: Any) -> Objective:
    """The objective for a student whose given weights, numpy, hold factors of some; itself where they hold none."""
    if params is None or not any(factors.NAME.fullmatch(path.rpartition("/")[2]) for path in _paths(params)):
        return objective

    def init(rng, batch):
        made, frozen, state = objective.init(rng, batch)
        return {**made, STUDENT: axes_of(made[STUDENT], params)}, frozen, state

    return objective._replace(init=init)


def with_transform(objective: Objective, config: ConfigDict) -> Objective:
    """The objective for a student under compression; the objective itself where the config has no method.

    Its state is {"inner": the objective's, "masks": path -> bool [shape], "steps": int32 scalar}.
    """
    ways = ways_of(config)
    if not ways:
        return objective
    pruning = [way for way in ways if way.kind == "prune"]
    coding = [way for way in ways if way.kind == "int"]
    begin, end = config.begin_percent / 100, config.end_percent / 100

    def init(rng, batch):
        params, frozen, inner = objective.init(rng, batch)
        student = params[STUDENT]
        for way in (way for way in ways if way.kind in ("rank", "tt")):
            student = _drawn_factors(student, way, jax.random.fold_in(rng, 0x66616374))
        plain, axes = rules.unbox(student), rules.logical_axes(student)
        for way in coding:
            _leaves(plain, way)  # refused here, before anything is computed
        masks = {}
        for way in pruning:
            for path in _leaves(plain, way):
                mask, names = jnp.ones(_at(plain, path).shape, bool), _at(axes, path)
                masks[path] = mask if names is None else rules.with_axes(mask, *names)
        state = {"inner": inner, "masks": masks, "steps": jnp.zeros((), jnp.int32)}
        return {**params, STUDENT: student}, frozen, state

    def masks_at(student, progress):
        found = {}
        for way in pruning:
            weights = {path: _at(student, path) for path in _leaves(student, way)}
            found |= _masks(weights, way, prune.sparsity_at(progress, way.sparsity, begin, end))
        return found

    def coded(student):
        for way in coding:
            for path in _leaves(student, way):
                student = _put(student, path, _fake_quantized(_at(student, path), path, way))
        return student

    def compressed(loss):
        def of_compressed(params, frozen, state, batch, step):
            student, masks = params[STUDENT], state["masks"]
            if masks:
                fixed = jax.lax.stop_gradient(student)
                is_time = state["steps"] % config.mask_every_steps == 0
                masks = jax.lax.cond(is_time, lambda: masks_at(fixed, step.progress), lambda: masks)
            seen = {**params, STUDENT: coded(_masked(student, masks))}
            value, (inner, metrics) = loss(seen, frozen, state["inner"], batch, step)
            if masks:
                pruned = sum(jnp.sum(~mask, dtype=jnp.float32) for mask in masks.values())
                metrics = {**metrics, "sparsity": (pruned, jnp.float32(sum(mask.size for mask in masks.values())))}
            return value, ({"inner": inner, "masks": masks, "steps": state["steps"] + 1}, metrics)

        return of_compressed

    def constrain(params, state):
        return {**params, STUDENT: _masked(params[STUDENT], state["masks"])}

    def served(params):
        student = params[STUDENT]
        return {**params, STUDENT: coded(_masked(student, masks_at(student, 1.0)))}

    made = objective.with_losses(compressed)
    return made._replace(init=init, constrain=constrain if pruning else None, served=served)


def _masks(weights: Mapping[str, jax.Array], way: Way, sparsity) -> dict[str, jax.Array]:
    if way.variant != "together":
        return {path: prune.mask_in_step(w, sparsity) for path, w in weights.items()}
    joined = prune.mask_in_step(jnp.concatenate([w.ravel() for w in weights.values()]), sparsity)
    found, first = {}, 0
    for path, w in weights.items():
        found[path] = joined[first : first + w.size].reshape(w.shape)
        first += w.size
    return found


def _masked(student, masks: Mapping[str, jax.Array]):
    for path, mask in masks.items():
        student = _put(student, path, jnp.where(mask, _at(student, path), 0.0))
    return student


def _fake_quantized(w: jax.Array, path: str, way: Way) -> jax.Array:
    """Zeros of a pruned weight stay zeros where the quantisation is affine, as in a file."""
    weight, _, last = path.rpartition("/")
    axis = methods.channel_axis(weight if factors.NAME.fullmatch(last) else path)
    axis = None if way.variant or w.ndim == 4 else axis
    rounded = quantize.fake_quantize(w, int(way.number), axis=axis, is_affine=way.variant == "affine")
    return jnp.where(w == 0, w, rounded)


def _drawn_factors(student, way: Way, rng: jax.Array):
    """The boxed weights with fresh factors for those that the way names; their products have the variance that was."""
    plain, axes = rules.unbox(student), rules.logical_axes(student)
    for i, path in enumerate(methods.matching(way, methods.shapes_of(plain))):
        w, names, rank = _at(plain, path), _at(axes, path), int(way.number)
        if factors.are_in(w):
            raise UserError(f"{way.in_words()}: {path} has factors already; leave it out of compression.method")
        of_product = [(w.shape[0], rank), (rank, w.shape[1])]
        shapes = of_product if way.kind == "rank" else methods.train_shapes(w.shape, rank)
        drawn = tensor_train.init(jax.random.fold_in(rng, i), shapes, jnp.var(w))
        student = _put(student, path, in_boxes(factors.named(drawn), names or (None, None)))
    return student


def _leaves(student, way: Way) -> list[str]:
    """The paths of the arrays that a way changes; of a weight with factors those of the factors."""
    found = []
    for path in methods.matching(way, methods.shapes_of(student)):
        node = _at(student, path)
        found += [f"{path}/{name}" for name in node] if factors.are_in(node) else [path]
    return found


def _paths(tree) -> list[str]:
    return [jax.tree_util.keystr(keys, simple=True, separator="/") for keys, _ in jax.tree.leaves_with_path(tree)]


def _at(tree, path: str):
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _put(tree, path: str | Sequence[str], leaf):
    """The tree with another leaf; nothing of the given one is changed."""
    name, *rest = path.split("/") if isinstance(path, str) else path
    return {**tree, name: _put(tree[name], rest, leaf) if rest else leaf}
