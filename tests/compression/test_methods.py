"""What is done to which weights of a tree, and what is refused."""

import numpy as np
import pytest

from codir_jax.compression import factors, methods
from codir_jax.processes.user_error import UserError


def tree():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        "encoder": {"word": {"embedding": draw(27, 8)}, "dense": {"kernel": draw(8, 64), "bias": draw(64)}},
        "classifier": {"kernel": draw(8, 2), "bias": draw(2)},
    }


MATRICES = ("encoder/word/embedding", "encoder/dense/kernel", "classifier/kernel")


def test_int8_changes_all_matrices_and_no_vector():
    weights, changed = methods.compress(tree(), methods.parse("int8"))
    assert changed == {"int8": MATRICES}
    assert weights["encoder/dense/bias"].is_as_it_was
    # A channel is a row of a table and a column of a kernel: each uses its whole range.
    assert (np.abs(weights["encoder/word/embedding"].arrays[0].values).max(axis=1) == 127).all()
    assert (np.abs(weights["encoder/dense/kernel"].arrays[0].values).max(axis=0) == 127).all()


def test_a_vector_has_one_scale():
    weights, _ = methods.compress(tree(), methods.parse("int8@.*"))
    assert weights["encoder/dense/bias"].arrays[0].scale.size == 1
    assert weights["encoder/dense/kernel"].arrays[0].scale.size == 64


def test_a_pattern_names_the_weights():
    weights, changed = methods.compress(tree(), methods.parse("int4_tensor@encoder/.*kernel"))
    assert changed == {"int4_tensor@encoder/.*kernel": ("encoder/dense/kernel",)}
    assert weights["encoder/dense/kernel"].arrays[0].scale.size == 1
    assert weights["classifier/kernel"].is_as_it_was


def test_steps_follow_each_other_on_the_factors():
    weights, changed = methods.compress(tree(), methods.parse("rank4+prune50+int8"))
    dense = weights["encoder/dense/kernel"]
    assert changed["rank4"] == ("encoder/word/embedding", "encoder/dense/kernel")  # no fewer numbers in the classifier
    assert (dense.kind, [array.values.shape for array in dense.arrays]) == ("low_rank", [(8, 4), (4, 64)])
    assert [array.mask.mean() for array in dense.arrays] == [0.5, 0.5]
    a, b = (array.numbers() for array in dense.arrays)
    assert ((a == 0).mean(), (b == 0).mean()) == (0.5, 0.5)
    np.testing.assert_array_equal(dense.numbers(), a @ b)
    assert factors.are_in(methods.tree_of(weights)["encoder"]["dense"]["kernel"])


def test_pruning_leaves_what_it_keeps_bit_equal():
    before = tree()
    weights, _ = methods.compress(before, methods.parse("prune75"))
    after = methods.tree_of(weights)
    for path in MATRICES:
        old, new = (methods.weights_of(one)[path].numbers() for one in (before, after))
        kept = weights[path].arrays[0].mask
        np.testing.assert_array_equal(new, np.where(kept, old, 0))
    np.testing.assert_array_equal(after["classifier"]["bias"], before["classifier"]["bias"])


def test_pruned_together_the_shares_differ():
    weights, _ = methods.compress(tree(), methods.parse("prune50_together"))
    kept = [weights[path].arrays[0].mask for path in MATRICES]
    assert sum(mask.sum() for mask in kept) == round(0.5 * sum(mask.size for mask in kept))


def test_a_tree_with_factors_is_compressed_again():
    first, _ = methods.compress(tree(), methods.parse("rank4"))
    again, _ = methods.compress(methods.tree_of(first), methods.parse("int8"))
    assert [array.bits for array in again["encoder/dense/kernel"].arrays] == [8, 8]


def test_codes_of_what_was_coded_before_are_the_same():
    first, _ = methods.compress(tree(), methods.parse("int4"))
    again, _ = methods.compress(methods.tree_of(first), methods.parse("int4"))
    for path in MATRICES:
        np.testing.assert_array_equal(first[path].arrays[0].values, again[path].arrays[0].values)


def test_a_tensor_train_takes_matrices_whose_sizes_have_factors():
    weights, changed = methods.compress(tree(), methods.parse("tt2"))
    assert changed == {"tt2": ("encoder/word/embedding", "encoder/dense/kernel")}
    assert weights["encoder/word/embedding"].shape == (27, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int5", "5 bits are not served; known: 8, 6, 4, 3"),
        ("int7.5", "7.5 bits"),
        ("prune100", "below 1"),
        ("prune0", "leaves everything as it is"),
        ("rank0", "a whole number from 1"),
        ("rank2.5", "a whole number from 1"),
        ("int8_row", "known: units50, rank64"),
        ("quarter", "known: units50, rank64"),
        ("", "known: units50, rank64"),
        ("int8+prune50", "the order is"),
        ("units50@a", "take no pattern"),
        ("units100", "below 1"),
        ("int8@(", "not a regular expression"),
    ],
)
def test_what_is_no_method_is_told(text, message):
    with pytest.raises(UserError, match=message):
        methods.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int8@decoder/.*", "changes nothing: .*the nearest is"),
        ("int8@kernel", "match a whole path"),
        ("rank8", "changes none of 5 weights"),
        ("rank2@classifier/kernel", r"would leave classifier/kernel \(8, 2\) as it is: rank 2 is not fewer numbers"),
        ("prune20@classifier/bias", "is none"),
        ("tt2@classifier/kernel", "no products of 3 numbers"),
        ("int8+int4", "has codes already"),
        ("rank4+rank2@encoder/word/embedding", "has factors already"),
    ],
)
def test_what_leaves_a_weight_as_it_was_is_an_error(text, message):
    with pytest.raises(UserError, match=message):
        methods.compress(tree(), methods.parse(text))
