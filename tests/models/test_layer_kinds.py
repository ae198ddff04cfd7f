"""Students of a model with global and local layers start from layers of these kinds, as a config.json can say them."""

import dataclasses
import itertools

import pytest

from codir_jax.models import layer_kinds, modernbert
from codir_jax.processes.user_error import UserError

BASE = modernbert.SIZES["modernbert-base"]


def of(num_layers, every=3):
    return dataclasses.replace(BASE, num_layers=num_layers, global_every=every)


@pytest.mark.parametrize(
    ("teacher", "student", "layers"),
    [
        (22, 11, (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21)),
        (28, 14, tuple(range(1, 28, 2))),
        (22, 6, (1, 3, 8, 13, 15, 18)),  # nearest of their kinds to 0, 3, 7, 11, 14, 18, counted from 0
        (22, 1, (1,)),
        (22, 22, tuple(range(1, 23))),
        (6, 5, (1, 2, 3, 4, 5)),
    ],
)
def test_uniform_takes_the_nearest_layers_of_the_same_kinds(teacher, student, layers):
    assert layer_kinds.select("uniform", of(teacher), student) == layers


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_uniform_and_first_keep_all_kinds_whatever_the_depths(every):
    for teacher in range(1, 24):
        config = of(teacher, every)
        for student in range(1, teacher + 1):
            for rule in ("uniform", "first"):
                chosen = layer_kinds.select(rule, config, student)
                smaller, _ = layer_kinds.shrink(config, None, num_layers=student, layers=rule)
                assert chosen[0] == 1 and all(a < b <= teacher for a, b in itertools.pairwise(chosen))
                kinds = [config.is_global(layer - 1) for layer in chosen]
                assert kinds == [smaller.is_global(i) for i in range(student)]
                assert smaller == dataclasses.replace(config, num_layers=student)


@pytest.mark.parametrize(("layers", "every"), [("1,4,7", 1), ("1,2,4,5", 2), ("1,2,3,3", 4), ("1,3,6,7", 3)])
def test_a_list_may_give_the_student_another_pattern(layers, every):
    smaller, _ = layer_kinds.shrink(of(22), None, num_layers=layers.count(",") + 1, layers=layers)
    assert smaller.global_every == every


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("last", r"cannot start from the layers 20,21,22: the first layer has no norm .* a list like '1,8,15'"),
        ("4,5,7", "starts from layer 1"),
        ("1,2,1", "and no other, starts from layer 1"),
        ("1,4,5", r"1,4,5, which are global, global, local: a config.json can only say"),
        ("middle", "unknown rule 'middle'"),
        ("1,2", "names 2 teacher layers; the student has 3"),
    ],
)
def test_layers_that_cannot_be_are_refused_with_some_that_can(layers, message):
    with pytest.raises(UserError, match=message):
        layer_kinds.shrink(of(22), None, num_layers=3, layers=layers)
