"""Exact parameter counts of every preset, by eval_shape: no array is made."""

import dataclasses
import functools
import math

import jax
import pytest
from flax import linen as nn

from codir_jax.models.contract import family
from codir_jax.models.heads import abstract_params, build_model
from codir_jax.models.sizes import named
from codir_jax.sharding.rules import RULES, logical_axes, unbox


def sizes(name):
    """Named sizes, "bert-base", those of another depth, "bert-base of 6", or of a model that has no name here."""
    if name == "google/bert_uncased_L-2_H-128_A-2":
        return dataclasses.replace(
            named("bert-base"), hidden_size=128, num_layers=2, num_heads=2, intermediate_size=512
        )
    base, _, depth = name.partition(" of ")
    return dataclasses.replace(named(base), num_layers=int(depth or named(base).num_layers))


@functools.cache
def abstract(name, head):
    """Shapes and axes of a model of two classes, traced once for all tests."""
    return abstract_params(build_model(sizes(name), head, 2))


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(unbox(tree)))


def by_formula(vocab, positions, types, hidden, layers, inner, *, head, num_labels):
    """Devlin et al.'s sizes, added up without the code under test."""
    embeddings = (vocab + positions + types) * hidden + 2 * hidden
    attention = 4 * (hidden * hidden + hidden) + 2 * hidden
    feed_forward = hidden * inner + inner + inner * hidden + hidden + 2 * hidden
    encoder = embeddings + layers * (attention + feed_forward)
    square = hidden * hidden + hidden
    if head == "masked_lm":
        return encoder + square + 2 * hidden + vocab
    return encoder + square + hidden * num_labels + num_labels


SIZES = {
    "tiny": (2048, 512, 2, 32, 2, 64),
    "minilm": (30522, 512, 2, 384, 6, 1536),
    "bert-base": (30522, 512, 2, 768, 12, 3072),
    "bert-large": (30522, 512, 2, 1024, 24, 4096),
    "bert-base of 6": (30522, 512, 2, 768, 6, 3072),
    "google/bert_uncased_L-2_H-128_A-2": (30522, 512, 2, 128, 2, 512),
    "roberta-base": (50265, 514, 1, 768, 12, 3072),
    "roberta-large": (50265, 514, 1, 1024, 24, 4096),
    "roberta-base of 6": (50265, 514, 1, 768, 6, 3072),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("head", ["classification", "masked_lm"])
def test_the_count_is_the_closed_formula(name, head):
    assert count(abstract(name, head)) == by_formula(*SIZES[name], head=head, num_labels=2)


# What transformers counts, and model cards state, for the published checkpoints.
PUBLISHED = [
    ("bert-base", "encoder_and_pooler", 109_482_240),
    ("bert-base", "classification", 109_483_778),
    ("bert-base", "masked_lm", 109_514_298),
    ("bert-large", "encoder_and_pooler", 335_141_888),
    ("bert-base of 6", "encoder_and_pooler", 66_955_008),
    ("google/bert_uncased_L-2_H-128_A-2", "encoder_and_pooler", 4_385_920),
    ("roberta-base", "encoder_and_pooler", 124_645_632),
    ("roberta-base", "classification", 124_647_170),
    ("roberta-base", "masked_lm", 124_697_433),
    ("roberta-large", "encoder_and_pooler", 355_359_744),
    ("roberta-large", "classification", 355_361_794),
    ("roberta-base of 6", "encoder_and_pooler", 82_118_400),
    ("xlm-roberta-base", "encoder_and_pooler", 278_043_648),
    ("xlm-roberta-large", "masked_lm", 560_142_482),
    ("distilbert-base", "classification", 66_955_010),
    ("distilbert-base", "masked_lm", 66_985_530),
    ("mpnet-base", "encoder_and_pooler", 109_486_464),
    ("mpnet-base", "masked_lm", 109_518_527),
    ("electra-small", "classification", 13_549_314),
    ("electra-small", "masked_lm", 13_546_682),
    ("electra-base", "classification", 109_483_778),
    ("electra-large", "masked_lm", 335_174_458),
    ("deberta-v3-base", "encoder", 183_831_552),
    ("deberta-v3-small", "classification", 141_896_450),
    ("deberta-v3-xsmall", "encoder", 70_682_112),
    ("deberta-v3-large", "encoder", 434_012_160),
    ("modernbert-base", "masked_lm", 149_655_232),
    ("modernbert-large", "masked_lm", 395_881_664),
]


@pytest.mark.parametrize(("name", "part", "total"), PUBLISHED)
def test_the_count_is_the_published_one(name, part, total):
    head = "masked_lm" if part == "masked_lm" else "classification"
    params = abstract(name, head)
    if part.startswith("encoder"):
        params = {key: params[key] for key in part.split("_and_")}
    assert count(params) == total


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("head", ["classification", "masked_lm"])
def test_every_weight_names_its_axes_and_every_name_is_in_the_table(name, head):
    params = abstract(name, head)
    known = {logical for logical, _ in RULES}
    boxed = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, nn.meta.AxisMetadata))
    assert len(boxed) == len(jax.tree.leaves(params))
    for leaf in boxed:
        assert isinstance(leaf, nn.LogicallyPartitioned), leaf
        assert len(leaf.names) == len(leaf.value.shape)
        assert set(leaf.names) <= known
        assert len(set(leaf.names)) == len(leaf.names)
    assert logical_axes(params)["encoder"]["layer_0"]["mlp_in"]["kernel"] == ("embed", "mlp")


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("head", ["classification", "masked_lm"])
def test_every_weight_has_one_place_in_the_checkpoint(name, head):
    config = sizes(name)
    keys = family(config.family).keys(config, head)
    shapes = unbox(abstract(name, head))
    paths = {tuple(k.key for k in path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)}
    assert set(keys) == paths
    assert len({key.name for key in keys.values()}) == len(keys)
