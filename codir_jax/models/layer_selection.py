"""Which teacher layers a student starts from, and which layers are matched in distillation.

Layers are counted from 1, as in the papers: `hidden_states[l]` is the output of layer l, `hidden_states[0]` the
embeddings.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flax import traverse_util

from codir_jax.processes.user_error import UserError

START_RULES = ("uniform", "first", "last")
MATCH_RULES = ("uniform", "skip_last", "last")


def select_layers(rule: str, num_teacher: int, num_student: int) -> tuple[int, ...]:
    """The teacher layer that each student layer starts from, counted from 1.

    Args:
        rule: "uniform": floor(i T / S) for i = 1..S, evenly spaced and ending at the teacher's last layer (12 -> 6:
            2, 4, ..., 12); "first": 1..S; "last": T-S+1..T; or a list, "1,3,5".
        num_teacher, num_student: layers T and S.

    Raises:
        UserError: for an unknown rule, a list of another length, or a layer that the teacher does not have.
    """
    if rule in START_RULES:
        if not 1 <= num_student <= num_teacher:
            raise UserError(
                f"a student of {num_student} layers cannot start from a teacher of {num_teacher} by rule {rule!r}; "
                f"use 1 to {num_teacher} layers, or a list in which layers repeat"
            )
        if rule == "first":
            return tuple(range(1, num_student + 1))
        if rule == "last":
            return tuple(range(num_teacher - num_student + 1, num_teacher + 1))
        return tuple(i * num_teacher // num_student for i in range(1, num_student + 1))
    layers = parse_start(rule)
    if len(layers) != num_student:
        raise UserError(f"{rule!r} names {len(layers)} teacher layers; the student has {num_student}")
    for layer in layers:
        _check(layer, 1, num_teacher, "teacher", rule)
    return layers


def select(rule: str, config: Any, num_layers: int) -> tuple[int, ...]:
    """`select_layers` for a student of `num_layers` of a teacher of that config."""
    return select_layers(rule, config.num_layers, num_layers)


def match_layers(spec: str, num_teacher: int, num_student: int) -> tuple[tuple[int, int], ...]:
    """Pairs (student layer, teacher layer) whose hidden states are compared.

    Args:
        spec: "uniform": student layer i with teacher layer floor(i T / S), the layer it stands for;
            "skip_last": with 1 + floor((i-1) T / S), as in CoDIR's released code (12 -> 6: 1, 3, ..., 11);
            "last": the last with the last, alone; or pairs "1:2,2:4", student first, where 0 is the embeddings.
        num_teacher, num_student: layers T and S.

    Raises:
        UserError: for an unknown name, a pair that does not parse, twice the same pair, or a layer that is not there.
    """
    students = range(1, num_student + 1)
    if spec in MATCH_RULES and spec != "last" and num_student > num_teacher:
        raise UserError(
            f"matches {spec!r} need a student no deeper than its teacher, got {num_student} and {num_teacher} layers; "
            f"list the pairs, e.g. '1:1,{num_student}:{num_teacher}'"
        )
    if spec == "uniform":
        return tuple((i, i * num_teacher // num_student) for i in students)
    if spec == "skip_last":
        return tuple((i, 1 + (i - 1) * num_teacher // num_student) for i in students)
    if spec == "last":
        return ((num_student, num_teacher),)
    pairs = parse_matches(spec)
    for student, teacher in pairs:
        _check(student, 0, num_student, "student", spec)
        _check(teacher, 0, num_teacher, "teacher", spec)
    return pairs


def parse_start(rule: str) -> tuple[int, ...]:
    """The layers of a list such as "1,3,5"; () of a rule's name.

    Raises:
        UserError: it is neither.
    """
    if rule in START_RULES:
        return ()
    if not re.fullmatch(r" *[0-9]{1,6} *(, *[0-9]{1,6} *)*", rule, re.ASCII):
        raise UserError(
            f"unknown rule {rule!r} for the layers of the student's first weights; known: {', '.join(START_RULES)}, or "
            "a list like '2,4,6'"
        )
    return tuple(int(part) for part in rule.split(","))


def parse_matches(spec: str) -> tuple[tuple[int, int], ...]:
    """The (student, teacher) pairs of a list such as "1:2,2:4"; () of a rule's name.

    Raises:
        UserError: it is neither, or a pair comes twice.
    """
    if spec in MATCH_RULES:
        return ()
    pairs = []
    for part in spec.split(","):
        if not re.fullmatch(r" *[0-9]{1,6} *: *[0-9]{1,6} *", part, re.ASCII):
            raise UserError(
                f"cannot read {part.strip()!r} in the layer matches {spec!r}; known: {', '.join(MATCH_RULES)}, or "
                f"pairs student:teacher like '1:2,2:4'"
            )
        student, teacher = (int(number) for number in part.split(":"))
        if (student, teacher) in pairs:
            raise UserError(f"the pair {student}:{teacher} is twice in the layer matches {spec!r}")
        pairs.append((student, teacher))
    return tuple(pairs)


def shrink(
    config: Any, params: Mapping[str, Any] | None, *, num_layers: int = 0, layers: str = "uniform"
) -> tuple[Any, dict[str, Any] | None]:
    """(config, params) of a smaller model that starts from some of the layers; embeddings and head are kept.

    Args:
        config: the teacher's, with `num_layers`.
        params: its weights, nested dict of arrays; None: only the sizes change.
        num_layers: of the smaller model; 0 is half of them, -1 all.
        layers: which ones, as in `select_layers`.

    Raises:
        UserError: as `select_layers`.
    """
    num_layers = num_layers_of(config, num_layers)
    smaller = dataclasses.replace(config, num_layers=num_layers)
    chosen = select_layers(layers, config.num_layers, num_layers)
    return smaller, None if params is None else with_layers(params, chosen)


def num_layers_of(config: Any, num_layers: int) -> int:
    """Layers of a smaller model than that of `config`: 0 is half of them, -1 all."""
    return {0: max(config.num_layers // 2, 1), -1: config.num_layers}.get(num_layers, num_layers)


def with_layers(params: Mapping[str, Any], chosen: Sequence[int]) -> dict[str, Any]:
    """A model's weights with these of its layers, counted from 1, in the place of all."""
    encoder = params["encoder"]
    template = {name: value for name, value in encoder.items() if not name.startswith("layer_")}
    template |= {f"layer_{i}": encoder[f"layer_{layer - 1}"] for i, layer in enumerate(chosen)}
    return init_from_teacher(params, {**params, "encoder": template}, chosen)


def init_from_teacher(
    teacher_params: Mapping[str, Any], student_params: Mapping[str, Any], layers: Sequence[int]
) -> dict[str, Any]:
    """The student's weights with embeddings, the chosen layers and the head taken from the teacher.

    Args:
        teacher_params: nested dict of arrays, the tree of a `heads.build_model` module.
        student_params: the same of the student; only shapes are read where the teacher has the weight. A head
            weight that the teacher has not, or has for another number of labels, stays the student's own.
        layers: one teacher layer per student layer, counted from 1 (`select_layers`).

    Raises:
        ValueError: another number of layers than the student's, or an encoder weight of another shape: a narrower
            student has nothing to inherit.
    """
    teacher = traverse_util.flatten_dict(dict(teacher_params))
    student = traverse_util.flatten_dict(dict(student_params))
    depth = len({path[1] for path in student if path[0] == "encoder" and path[1].startswith("layer_")})
    if len(layers) != depth:
        raise ValueError(f"{len(layers)} teacher layers {tuple(layers)} for a student of {depth} layers")
    result = {}
    for path, own in student.items():
        source = path
        if path[0] == "encoder" and path[1].startswith("layer_"):
            index = layers[int(path[1].removeprefix("layer_"))] - 1
            source = ("encoder", f"layer_{index}", *path[2:])
        theirs = teacher.get(source)
        if theirs is not None and theirs.shape == own.shape:
            result[path] = theirs
        elif path[0] == "encoder":
            got = "nothing" if theirs is None else f"shape {tuple(theirs.shape)}"
            raise ValueError(
                f"student weight {'/'.join(path)} has shape {tuple(own.shape)}, the teacher's {'/'.join(source)}: "
                f"{got}; a student of other sizes starts from random weights, not from the teacher's layers"
            )
        else:
            result[path] = own
    return traverse_util.unflatten_dict(result)


def _check(layer: int, low: int, high: int, side: str, spec: str) -> None:
    if not low <= layer <= high:
        raise UserError(f"{side} layer {layer} in {spec!r} does not exist; the {side} has layers {low} to {high}")
