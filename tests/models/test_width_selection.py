"""A narrower start: what weighs nothing may go, what is kept is the teacher's, and sizes that cannot be are told."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from codir_jax.models import contract
from codir_jax.models.heads import abstract_params, build_model
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox

ENCODERS = [name for name, family in contract.families().items() if "width" in family.shrink]
SIZES = {"hidden_size": 12, "num_layers": 2, "num_heads": 3, "intermediate_size": 10, "max_positions": 24}
CASES = [(name, head) for name in ENCODERS for head in ("classification", "masked_lm", "embedding")]


def fresh(config, head):
    rng = np.random.default_rng(0)
    shapes = unbox(abstract_params(build_model(config, head, 3)))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def shapes_of(tree):
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(tree).items()}


@pytest.mark.parametrize(("name", "head"), CASES)
def test_a_narrower_model_has_the_shapes_of_its_config(name, head):
    family = contract.family(name)
    config = family.from_scratch(40, 1, **SIZES)
    smaller, params = family.shrink["width"](config, fresh(config, head), num_heads=2, intermediate_size=7)
    assert (smaller.hidden_size, smaller.num_heads, smaller.intermediate_size) == (8, 2, 7)
    assert shapes_of(params) == shapes_of(fresh(smaller, head))
    assert family.shrink["width"](config, None, hidden_size=8, intermediate_size=7) == (smaller, None)


def test_units_that_weigh_nothing_go_without_a_trace_and_so_does_the_same_head_of_all_layers():
    family = contract.family("mpnet")  # its layers share a bias for each head
    config = family.from_scratch(40, 1, **SIZES)
    params = fresh(config, "classification")
    for i in range(2):
        layer = params["encoder"][f"layer_{i}"]
        layer["attention"]["output"]["kernel"][4:8] = 0
        layer["mlp_out"]["kernel"][[2, 5]] = 0
    states = params["encoder"]["layer_0"]["mlp_norm"]["scale"]
    smaller, made = family.shrink["width"](config, params, intermediate_size=8)
    ids = np.arange(2 * 6, dtype=np.int32).reshape(2, 6) + 4
    inputs = (ids, np.ones_like(ids), np.zeros_like(ids))
    outputs = [
        build_model(c, num_labels=3).apply({"params": p}, *inputs).logits
        for c, p in ((config, params), (smaller, made))
    ]
    np.testing.assert_allclose(*outputs, atol=1e-4)
    _, made = family.shrink["width"](config, params, hidden_size=8)
    kept = [int(np.flatnonzero(states == value)[0]) for value in made["encoder"]["layer_0"]["mlp_norm"]["scale"]]
    assert kept == sorted(kept) and len(set(kept)) == 8
    heads = params["encoder"]["layer_0"]["attention"]["query"]["kernel"][kept][:, [*range(4), *range(8, 12)]]
    np.testing.assert_array_equal(made["encoder"]["layer_0"]["attention"]["query"]["kernel"], heads)


def test_the_features_that_norms_and_kernels_make_small_go():
    family = contract.family("bert")
    config = family.from_scratch(40, 1, **SIZES)
    params = jax.tree.map(np.ones_like, fresh(config, "classification"))
    quiet = [1, 4, 6, 9]
    for norm in (params["encoder"]["embeddings"]["norm"], *_norms(params)):
        norm["scale"][quiet[:2]] = 0.1
    for i in range(2):
        layer = params["encoder"][f"layer_{i}"]
        for kernel in (
            *(layer["attention"][name]["kernel"] for name in ("query", "key", "value")),
            layer["mlp_in"]["kernel"],
        ):
            kernel[quiet[2:]] = 0.1
    params["encoder"]["embeddings"]["word"]["embedding"][:] = np.arange(12)
    _, made = family.shrink["width"](config, params, hidden_size=8)
    assert made["encoder"]["embeddings"]["word"]["embedding"][0].tolist() == [i for i in range(12) if i not in quiet]


def _norms(params):
    return [params["encoder"][f"layer_{i}"][name] for i in range(2) for name in ("attention_norm", "mlp_norm")]


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"hidden_size": 6}, "hidden_size 6 is not 1 heads of 4: .* give a multiple of 4"),
        ({"hidden_size": 8, "num_heads": 1}, "hidden_size 8 is not 1 heads of 4"),
        ({"hidden_size": 16}, "hidden_size 16 is above the 12 of the teacher"),
        ({"intermediate_size": 11}, "intermediate_size 11 is above the 10"),
    ],
)
def test_widths_that_cannot_be_are_told(widths, message):
    config = contract.family("bert").from_scratch(40, 1, **SIZES)
    with pytest.raises(UserError, match=message):
        contract.family("bert").shrink["width"](config, None, **widths)
