"""What is done to which weights, in words: `rank64+prune50+int8`, `int4_tensor@encoder/.*`.

METHOD      STEP[+STEP ...]: units first, then low rank or tensor train, then pruning, then quantisation
STEP        WORD[@PATTERN]; PATTERN, a regular expression, matches whole paths of weights; without it: all matrices

units50             50 % of the inner units are left out (by the family, see `models.contract.Family`)
rank64              product of two matrices of rank 64, where that is fewer numbers
tt8                 tensor train of 3 cores with ranks 8, where the sizes have 3 factors and that is fewer numbers
prune50             the 50 % smallest of each weight are 0 (a decimal may follow: prune92.5)
prune50_together    the 50 % smallest of all of them
int8 int6 int4 int3 codes of so many bits, symmetric, a scale for each output channel
int8_tensor         symmetric, one scale for each weight
int8_affine         from its smallest to its largest number, one scale for each weight
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from codir_jax.compression import factors, low_rank, prune, quantize, tensor_train
from codir_jax.compression.packed import FLOAT, Array, Weight
from codir_jax.processes.user_error import UserError

WORD = re.compile(r"(?P<kind>units|rank|tt|prune|int)(?P<number>\d+(\.\d+)?)(_(?P<variant>[a-z]+))?")
VARIANTS = {"units": (), "rank": (), "tt": (), "prune": ("together",), "int": ("tensor", "affine")}
ORDER = {"units": 0, "rank": 1, "tt": 1, "prune": 2, "int": 3}
KNOWN = "units50, rank64, tt8, prune50, prune50_together, int8, int6, int4, int3, int8_tensor, int8_affine"


class Step(NamedTuple):
    """Attributes:
    kind: of ORDER. number: rank, percent or bits. variant: of VARIANTS, or "". pattern: of paths; "": all matrices.
    """

    kind: str
    number: float
    variant: str = ""
    pattern: str = ""

    @property
    def sparsity(self) -> float:
        """Share of the weights that pruning leaves out."""
        return self.number / 100

    def in_words(self) -> str:
        """As it is written."""
        at = f"@{self.pattern}" if self.pattern else ""
        return f"{self.kind}{self.number:g}{'_' if self.variant else ''}{self.variant}{at}"


def parse(text: str) -> tuple[Step, ...]:
    """The steps of a method.

    Raises:
      UserError: an unknown word, a number out of range, a pattern that is none, steps in another order.
    """
    steps = tuple(_step(part.strip()) for part in text.split("+"))
    order = [ORDER[step.kind] for step in steps]
    if order != sorted(order):
        raise UserError(f"{text!r}: the order is units, rank or tt, prune, int, as only numbers that stay are coded")
    return steps


def _step(text: str) -> Step:
    word, _, pattern = text.partition("@")
    found = WORD.fullmatch(word)
    if found is None or (found["variant"] or "") not in ("", *VARIANTS[found["kind"]]):
        raise UserError(f"unknown way to compress {text!r}; known: {KNOWN}, each with @PATTERN for some weights only")
    kind, number = found["kind"], float(found["number"])
    if kind == "int":
        if number not in quantize.BITS:
            raise UserError(f"{text!r}: {number:g} bits are not served; known: {', '.join(map(str, quantize.BITS))}")
    elif kind in ("prune", "units"):
        if number >= 100:
            raise UserError(f"{text!r} leaves nothing; give a percentage below 100")
        if number == 0:
            raise UserError(f"{text!r} leaves everything as it is; give a percentage above 0")
    elif number != int(number) or number < 1:
        raise UserError(f"{text!r}: a rank is a whole number from 1")
    if kind == "units" and pattern:
        raise UserError(f"{text!r}: units are left out of the whole model, and take no pattern")
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"{text!r}: {pattern!r} is not a regular expression ({error})") from error
    return Step(kind, number, found["variant"] or "", pattern)


def compress(tree: Mapping[str, Any], steps: Sequence[Step]) -> tuple[dict[str, Weight], dict[str, tuple[str, ...]]]:
    """The weights of a tree, compressed at once.

    Args:
      tree: nested dict of float arrays, parameters of a model; weights may be factors.

    Returns:
      path -> weight, of all weights; words of a step -> paths of those that it changed.

    Raises:
      UserError: a step changes nothing, or not what its pattern asks for.
    """
    weights = weights_of(tree)
    changed = {}
    for step in steps:
        chosen = matching(step, {path: weight.shape for path, weight in weights.items()})
        weights |= _DO[step.kind](step, {path: weights[path] for path in chosen})
        changed[step.in_words()] = tuple(chosen)
    return weights, changed


def weights_of(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Weight]:
    """Path, parts joined by "/", -> weight of a nested dict of arrays, in its order."""
    found: dict[str, Weight] = {}
    for name, node in tree.items():
        path = f"{prefix}{name}"
        if factors.are_in(node):
            arrays = tuple(Array(np.asarray(factor, np.float32)) for factor in factors.listed(node))
            found[path] = Weight("tensor_train" if factors.is_train(factors.listed(node)) else "low_rank", arrays)
        elif isinstance(node, Mapping):
            found |= weights_of(node, f"{path}/")
        else:
            found[path] = Weight("dense", (Array(np.asarray(node, np.float32)),))
    return found


def shapes_of(tree: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Path -> shape of every weight of a nested dict of arrays, in its order; of factors that of their product."""
    found: dict[str, tuple[int, ...]] = {}
    for name, node in tree.items():
        if isinstance(node, Mapping) and not factors.are_in(node):
            found |= shapes_of(node, f"{prefix}{name}/")
        else:
            found[f"{prefix}{name}"] = factors.shape(node) if factors.are_in(node) else tuple(node.shape)
    return found


def tree_of(weights: Mapping[str, Weight]) -> dict[str, Any]:
    """The nested dict of float32 arrays, or factors, that a model computes with."""
    return nested({path: factors.in_tree(weight) for path, weight in weights.items()})


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> node, as a nested dict."""
    tree: dict[str, Any] = {}
    for path, node in flat.items():
        *parents, name = path.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = node
    return tree


def matching(step: Step, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The paths that a step changes: those of its pattern, else all matrices that it can change.

    Args:
      shapes: path -> shape of the weight.

    Raises:
      UserError: there is none, or the step cannot change one of its pattern.
    """
    if not step.pattern:
        found = [path for path, shape in shapes.items() if len(shape) >= 2 and _fits(step, shape)]
        if not found:
            raise UserError(f"{step.in_words()} changes none of {len(shapes)} weights: {_why_not(step)}")
        return found
    found = [path for path in shapes if re.fullmatch(step.pattern, path)]
    if not found:
        nearest = difflib.get_close_matches(step.pattern, shapes, n=1, cutoff=0.0)[0]
        raise UserError(
            f"{step.in_words()} changes nothing: a pattern must match a whole path, and the nearest is {nearest!r}"
        )
    for path in found:
        if not _fits(step, shapes[path]):
            raise UserError(
                f"{step.in_words()} would leave {path} {shapes[path]} as it is: {_why_not(step)}. Give another number, "
                "or a pattern of other weights"
            )
    return found


def channel_axis(path: str) -> int:
    """The axis of output channels: a table has a row for each word, a kernel a column for each feature."""
    return 0 if path.endswith("embedding") else -1


def train_shapes(shape: tuple[int, ...], rank: int) -> list[tuple[int, ...]] | None:
    """Shapes of the cores of a tensor train for a matrix; None where its sizes have no factors."""
    try:
        rows, columns = (tensor_train.modes(size) for size in shape)
    except UserError:
        return None
    return tensor_train.shapes(rows, columns, [rank] * (len(rows) - 1))


def _fits(step: Step, shape: tuple[int, ...]) -> bool:
    """Whether a step changes a weight of that shape."""
    size, number = math.prod(shape), int(step.number)
    if step.kind == "rank":
        return low_rank.saves(shape, number)
    if step.kind == "tt":
        cores = train_shapes(shape, number) if len(shape) == 2 else None
        return cores is not None and sum(map(math.prod, cores)) < size
    return step.kind == "int" or step.variant == "together" or round(step.sparsity * size) > 0


def _why_not(step: Step) -> str:
    return {
        "rank": f"rank {step.number:g} is not fewer numbers than the matrix, or it is no matrix",
        "tt": "it is no matrix, its sizes are no products of 3 numbers, or the train is not fewer numbers",
        "prune": f"{step.number:g} % of so few numbers is none",
        "int": "there is no matrix",
    }[step.kind]


def _factor(step: Step, weights: Mapping[str, Weight]) -> dict[str, Weight]:
    found = {}
    for path, weight in weights.items():
        if weight.kind != "dense":
            raise UserError(f"{step.in_words()}: {path} has factors already")
        w, rank = weight.arrays[0].values, int(step.number)
        if step.kind == "rank":
            parts = low_rank.factors(w, rank)
        else:
            rows, columns = (tensor_train.modes(size) for size in w.shape)
            parts = tensor_train.svd(w.astype(np.float64), rows, columns, [rank] * (len(rows) - 1))
        kind = "low_rank" if step.kind == "rank" else "tensor_train"
        found[path] = Weight(kind, tuple(Array(part.astype(np.float32)) for part in parts))
    return found


def _prune(step: Step, weights: Mapping[str, Weight]) -> dict[str, Weight]:
    arrays = {(path, i): a.values for path, weight in weights.items() for i, a in enumerate(weight.arrays)}
    if step.variant == "together":
        masks = prune.masks_together(arrays, step.sparsity)
    else:
        masks = {key: prune.mask(values, step.sparsity) for key, values in arrays.items()}

    def pruned(array: Array, mask: np.ndarray) -> Array:
        return Array(np.where(mask, array.values, np.float32(0)), mask=mask)

    return {
        path: weight._replace(arrays=tuple(pruned(a, masks[path, i]) for i, a in enumerate(weight.arrays)))
        for path, weight in weights.items()
    }


def _quantize(step: Step, weights: Mapping[str, Weight]) -> dict[str, Weight]:
    found = {}
    for path, weight in weights.items():
        if any(array.bits != FLOAT for array in weight.arrays):
            raise UserError(f"{step.in_words()}: {path} has codes already")
        axis = None if step.variant or weight.kind == "tensor_train" else channel_axis(path)

        def coded(array: Array, axis=axis) -> Array:
            axis = axis if array.values.ndim > 1 else None  # each number of a vector would have a scale of its own
            codes = quantize.quantize(array.values, int(step.number), axis=axis, is_affine=step.variant == "affine")
            return codes._replace(mask=array.mask)

        found[path] = weight._replace(arrays=tuple(coded(array) for array in weight.arrays))
    return found


_DO = {"rank": _factor, "tt": _factor, "prune": _prune, "int": _quantize}
