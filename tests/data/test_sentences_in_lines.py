"""Sentences packed in lines: every token once, none cut, few lines."""

import numpy as np
import pytest

from codir_jax.data.sentences.lines import even_multiple, packed


@pytest.mark.parametrize("lengths", [[3], [5, 5, 5], [1, 4, 2, 3, 5, 2, 3], list(range(1, 6)) * 20])
def test_every_token_stands_once_beside_its_neighbours(lengths):
    lengths, width = np.array(lengths), 5
    places = packed(lengths, width)
    stood = places[places >= 0]
    expected = np.concatenate([text * width + np.arange(length) for text, length in enumerate(lengths)])
    np.testing.assert_array_equal(np.sort(stood), np.sort(expected))
    for line in places:
        tokens = line[line >= 0]
        assert len(tokens) and (line[: len(tokens)] == tokens).all()  # padding is behind them only
        first = tokens % width == 0
        assert first[0] and (np.diff(tokens)[~first[1:]] == 1).all()


def test_lines_are_few_and_a_multiple():
    lengths = np.random.default_rng(0).integers(2, 42, 288)
    places = packed(lengths, 41)
    assert len(places) <= 1.05 * lengths.sum() / 41 + 1
    whole = packed(lengths, 41, even_multiple(288, 8))
    assert len(whole) % 8 == 0 and 0 <= len(whole) - len(places) < even_multiple(288, 8) == 24
    np.testing.assert_array_equal(whole[: len(places)], places)
    assert (whole[len(places) :] == -1).all()
    assert even_multiple(8, 8) == 8
