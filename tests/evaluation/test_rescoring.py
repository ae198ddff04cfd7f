"""Word errors, rankings and tuned weights by hand; n-best files and what is wrong in them."""

import gzip

import numpy as np
import pytest

from codir_jax.data import nbest
from codir_jax.evaluation import rescoring
from codir_jax.evaluation.rescoring import NBest, Weights
from codir_jax.processes.user_error import UserError

LISTS = [
    NBest("a", ("x y", "x y z"), (0.0, 0.0), "x y z"),
    NBest("b", ("p", "p q"), (0.0, 0.0), "p q"),
    NBest("c", ("m n", "m"), (0.0, 0.0), "m n"),
]
SCORES = [np.array([-4.0, -5.5]), np.array([-2.0, -3.5]), np.array([-5.0, -4.0])]


@pytest.mark.parametrize(
    ("said", "meant", "expected"),
    [
        ("a b c", "a b c", 0),
        ("a c", "a b c", 1),
        ("a x c d", "a b c", 2),
        ("", "a b", 2),
        ("a", "", 1),
        ("b a", "a b", 2),
    ],
)
def test_word_errors_are_edits(said, meant, expected):
    assert rescoring.word_errors(said, meant) == expected


def test_a_length_weight_undoes_what_a_longer_candidate_loses():
    raw = rescoring.errors(LISTS, SCORES, Weights())
    assert raw.tolist() == [[1, 3, 0], [1, 2, 0], [1, 2, 0]] and rescoring.wer(raw) == 3 / 7
    weights = rescoring.tuned(LISTS, SCORES)
    assert weights == Weights(1.0, 2.0)  # 1.5 nats a word and 1: of the grid the smallest above
    assert rescoring.errors(LISTS, SCORES, weights)[:, 0].sum() == 0
    as_heard = NBest("a", ("x y", "x y z"), (0.0, 1.0), None)
    assert rescoring.ranking(as_heard, SCORES[0], Weights(0.0, 0.0)).tolist() == [1, 0]


def test_tuning_needs_references():
    with pytest.raises(UserError, match="'d' has no reference"):
        rescoring.tuned([NBest("d", ("x",), (0.0,), None)], [np.zeros(1)])


def test_kaldi_and_json_lists_are_the_same(tmp_path):
    (tmp_path / "n.txt").write_text("u-1-1 -3.5 the cat\nu-1-2 -4 a cat\nv-1 0 dog\n")
    (tmp_path / "ref").write_text("u-1 the cat\nv dog\n")
    (tmp_path / "n.jsonl").write_text(
        '{"id": "u-1", "candidates": ["the cat", "a cat"], "scores": [-3.5, -4], "gold": 0}\n'
        '{"id": "v", "candidates": ["dog"], "reference": "dog"}\n'
    )
    kaldi = nbest.read(str(tmp_path / "n.txt"), str(tmp_path / "ref"))
    assert kaldi == nbest.read(str(tmp_path / "n.jsonl"))
    assert kaldi[0] == nbest.Candidates("u-1", ("the cat", "a cat"), (-3.5, -4.0), "the cat")
    (tmp_path / "tabs").write_text("u-1\tthe cat\nv\tdog\n")
    assert nbest.read(str(tmp_path / "n.txt"), str(tmp_path / "tabs")) == kaldi
    (tmp_path / "n.JSONL.gz").write_bytes(gzip.compress((tmp_path / "n.jsonl").read_bytes()))
    assert nbest.read(str(tmp_path / "n.JSONL.gz")) == kaldi
    (tmp_path / "null.jsonl").write_text('{"candidates": ["a"], "reference": null, "gold": null}\n')
    assert nbest.read(str(tmp_path / "null.jsonl"))[0].reference is None


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("n.jsonl", b'{"candidates": []}\n', "n.jsonl:1: expected an object"),
        ("n.jsonl", b'{"candidates": ["a"]}\n{"candidates": ["a", " "]}\n', "n.jsonl:2: a candidate is empty"),
        ("n.jsonl", b'{"candidates": ["a"], "gold": 1}\n', "no place among the 1"),
        ("n.jsonl", b'{"candidates": ["a"], "scores": [1, 2]}\n', "not a list of 1"),
        ("n.jsonl", b"{\n", "broken JSON"),
        ("n.jsonl", b"[" * 100_000, "nested too deeply"),
        ("n.jsonl", b'{"candidates": ["a"], "scores": [' + b"7" * 400 + b"]}\n", "no finite number"),
        ("n.txt", b"a-1 -3 x\na-1 -4 y\n", "n.txt:2: 'a-1' is there twice"),
        ("n.txt", b"u-1 -3 a\nu -3 b\n", "n.txt:2: expected KEY-N"),
        ("n.txt", b"u-1 x a\n", "n.txt:1: expected KEY-N"),
        ("n.txt", b"spk-utta -3 a\nspk-uttb -2 b\n", "n.txt:1: expected KEY-N"),
        ("n.txt", b"u-1 -3 a\0b\n", "n.txt:1: a NUL"),
        ("n.txt", b"u-1 -3 a\nu-2 -3 \xff\n", "n.txt:2: broken UTF-8"),
        ("n.txt", b"", "no list at all"),
    ],
)
def test_what_is_wrong_in_a_list_is_told_by_its_line(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told.replace("(", r"\(")):
        nbest.read(str(tmp_path / name))


def test_a_list_without_its_reference_is_named(tmp_path):
    (tmp_path / "n.txt").write_text("u-1 -3 a\nv-1 -3 b\n")
    (tmp_path / "ref").write_text("u a\n")
    with pytest.raises(UserError, match="no reference of 'v'"):
        nbest.read(str(tmp_path / "n.txt"), str(tmp_path / "ref"))
