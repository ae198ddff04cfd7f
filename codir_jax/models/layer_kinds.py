"""Which layers a student starts from, of a model whose layers are of two kinds: global is every n-th, from the first.

A student's layer keeps the kind of the layer that it starts from, or its weights would meet other tokens than those
that they were trained for. The student too must have a global layer every n-th time, with an n of its own: config.json
says no more to readers that know no list of kinds. Its first layer is the model's first, and only that one, as it has
another form: there is no norm before its attention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from codir_jax.models import layer_selection
from codir_jax.processes.user_error import UserError


def period(is_global: Sequence[bool], first_tried: int) -> int:
    """The n of layers of these kinds, `first_tried` where it is one; 0 where there is none."""
    for every in (first_tried, *range(1, len(is_global) + 1)):
        if all(of_kind == (place % every == 0) for place, of_kind in enumerate(is_global)):
            return every
    return 0


def select(rule: str, config: Any, num_layers: int) -> tuple[int, ...]:
    """The teacher layer that each student layer starts from, counted from 1.

    Args:
        rule: as of `layer_selection.select_layers`, but for "uniform": layer i of S, counted from 0, starts from that
            layer of its kind nearest to floor(i T / S) that leaves enough of them for those behind. Of 22 layers, each
            third one global, 11 start from 1, 3, 5, ..., 21, and again each third one is global.
        config: the teacher's, with `num_layers`, `global_every` and `is_global`.
        num_layers: of the student.

    Raises:
        UserError: as `select_layers`, or the kinds do not fit.
    """
    if rule == "uniform" and num_layers <= config.num_layers:
        return _uniform(config, num_layers)
    chosen = layer_selection.select_layers(rule, config.num_layers, num_layers)
    _every(config, chosen)
    return chosen


def shrink(
    config: Any, params: Mapping[str, Any] | None, *, num_layers: int = 0, layers: str = "uniform"
) -> tuple[Any, dict[str, Any] | None]:
    """As `layer_selection.shrink`, with layers by `select`."""
    num_layers = layer_selection.num_layers_of(config, num_layers)
    chosen = select(layers, config, num_layers)
    smaller = dataclasses.replace(config, num_layers=num_layers, global_every=_every(config, chosen))
    return smaller, None if params is None else layer_selection.with_layers(params, chosen)


def _uniform(config: Any, num_layers: int) -> tuple[int, ...]:
    kinds = [config.is_global(i) for i in range(num_layers)]
    latest, end = [], config.num_layers
    for kind in reversed(kinds):
        end = max(i for i in range(end) if config.is_global(i) == kind)
        latest.append(end)
    chosen: list[int] = []
    for place, (kind, last) in enumerate(zip(kinds, reversed(latest), strict=True)):
        aim = place * config.num_layers // num_layers
        begin = chosen[-1] + 1 if chosen else 0
        of_kind = [i for i in range(begin, last + 1) if config.is_global(i) == kind]
        chosen.append(min(of_kind, key=lambda i, aim=aim: abs(i - aim)))
    return tuple(i + 1 for i in chosen)


def _every(config: Any, chosen: Sequence[int]) -> int:
    if chosen[0] != 1 or 1 in chosen[1:]:
        raise UserError(
            f"a student cannot start from the layers {_listed(chosen)}: the first layer has no norm before its "
            "attention and all others have one, so the student's first layer, and no other, starts from layer 1; "
            f"use 'uniform', 'first' or a list like '{_listed(_uniform(config, min(len(chosen), config.num_layers)))}'"
        )
    kinds = [config.is_global(layer - 1) for layer in chosen]
    if every := period(kinds, config.global_every):
        return every
    told = ", ".join("global" if kind else "local" for kind in kinds)
    raise UserError(
        f"a student cannot start from the layers {_listed(chosen)}, which are {told}: a config.json can only say that "
        "every n-th layer, from the first on, is global; use 'uniform', 'first' or a list like "
        f"'{_listed(_uniform(config, min(len(chosen), config.num_layers)))}'"
    )


def _listed(layers: Sequence[int]) -> str:
    return ",".join(map(str, layers))
