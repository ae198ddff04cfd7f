"""Files for a sentence encoder: what the header tells, the layouts, and every mistake with file and line."""

import json

import pytest

from codir_jax.data import settings
from codir_jax.data.data_error import DataError
from codir_jax.data.sentence_rows import Pair, Triplet, rows
from codir_jax.data.sets import demo_pairs, sentence_pairs
from codir_jax.processes.user_error import UserError

LABELLED = ("sentence1", "sentence2", "label")
NLI = [
    ("a dog runs", "an animal moves", "entailment"),
    ("a dog runs", "a dog sleeps", "contradiction"),
    ("a dog runs", "a dog is big", "neutral"),
    ("a cat eats", "a cat has food", "1"),
    ("a cat eats", "no gold label", "-"),
]


def _options(tmp_path, header, lines, **fields):
    path = tmp_path / "train.tsv"
    path.write_text("\n".join("\t".join(row) for row in [header, *lines]) + "\n")
    options = settings.default_config()
    options.update({"name": "sentence_pairs", "train_path": str(path), **fields})
    return options


def _train(options):
    return sentence_pairs.read(options).splits["train"]


def test_labelled_pairs_lose_neutral_rows_and_become_two_texts_apart(tmp_path):
    train = _train(_options(tmp_path, LABELLED, NLI))
    assert train.texts_a == ["a dog runs", "a dog runs", "a cat eats"] and train.labels == [1, 0, 1]
    assert train.apart == (["an animal moves", "a dog sleeps", "a cat has food"],)


def test_other_names_of_columns_and_labels_are_fields(tmp_path):
    lines = [("snli", "a", "b", "yes"), ("snli", "a", "c", "no"), ("snli", "d", "e", "yes")]
    fields = {"sentence_columns": "premise,hypothesis", "label_column": "gold", "positive_labels": "yes"}
    options = _options(tmp_path, ("source", "premise", "hypothesis", "gold"), lines, **fields, negative_labels="no")
    assert _train(options).labels == [1, 0, 1]
    options.update({"label_column": ""})  # then every pair means the same
    assert _train(options).labels == [1, 1, 1]


def test_triplets_pairs_and_sentences_are_made_of_each_other():
    triplets = [Triplet("a", "b", "c"), Triplet("d", "e", None)]
    pairs = [Pair("a", "b", 1), Pair("a", "c", 0), Pair("d", "e", 1)]
    of_triplets, of_pairs = (rows(found, "pairs") for found in (triplets, pairs))
    assert of_triplets == of_pairs and of_pairs.labels == [1, 0, 1]
    for found in (triplets, pairs):
        made = rows(found, "triplets")
        assert (made.texts_a, *made.apart) == (["a", "d"], ["b", "e"], ["c", ""]) and made.labels is None
        assert made.columns == {"has_negative": [1.0, 0.0]}
        assert rows(found, "sentences").texts_a == ["a", "b", "c", "d", "e"]
    assert rows(triplets, "auto").apart and rows(["x", "y", "x"], "auto").texts_a == ["x", "y"]
    # An anchor with two of each takes them in turn.
    several = [Pair("a", "b", 1), Pair("a", "c", 0), Pair("a", "d", 1), Pair(" a", "e", 0)]
    assert rows(several, "triplets").apart == (["b", "d"], ["c", "e"])
    with pytest.raises(UserError, match=r"data\.layout='pairs' needs pairs or triplets"):
        rows(["x"], "pairs")


def test_the_header_tells_triplets_pairs_without_a_label_and_sentences(tmp_path):
    triplets = _train(_options(tmp_path, ("anchor", "positive", "negative"), [("a", "b", "c"), ("d", "e", "f")]))
    assert triplets.apart == (["b", "e"], ["c", "f"])
    assert _train(_options(tmp_path, ("anchor", "positive"), [("a", "b"), ("d", "e")])).labels == [1, 1]
    assert _train(_options(tmp_path, ("sentence",), [("a",), ("b",)])).texts_per_row == 1
    path = tmp_path / "texts.txt"
    path.write_text("one text\n\nanother, with\ttab\n")
    options = settings.default_config()
    options.update({"name": "sentence_pairs", "train_path": str(path)})
    assert _train(options).texts_a == ["one text", "another, with\ttab"]
    path.write_text("alone\n")
    with pytest.raises(DataError, match=r"texts\.txt: 1 usable row"):
        sentence_pairs.read(options)
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps({"anchor": a, "positive": b}) for a, b in ("ab", "cd")))
    options = settings.default_config()
    options.update({"name": "sentence_pairs", "train_path": str(path)})
    assert _train(options).texts_a == ["a", "c"]


@pytest.mark.parametrize(
    ("header", "lines", "told"),
    [
        (LABELLED, [("a", "b", "entailmnt")], r"tsv:2: unknown label 'entailmnt'; .*did you mean 'entailment'"),
        (LABELLED, [("a", "b", "1"), ("a", "", "1")], r"tsv:3: empty text in column 'sentence2'"),
        (LABELLED, [("a", "b", "")], r"tsv:2: empty label"),
        (LABELLED, [("a", "b", "0"), ("a", "c", "0")], r"no pair is entailed: .*entailment,1"),
        (LABELLED, [("a", "b", "1")], r"1 usable row; a contrast needs at least two"),
        (("sentence1", "sentence2"), [("a", "b")], r"no column 'label'"),
        (("anchor", "positive", "negative"), [("a", "b", " ")], r"tsv:2: empty text in column 'negative'"),
        (("left", "right"), [("a", "b")], r"tsv:1: columns are left, right; expected sentence1, sentence2 and label"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_file_and_line(tmp_path, header, lines, told):
    with pytest.raises(DataError, match=told):
        sentence_pairs.read(_options(tmp_path, header, lines))


def test_scored_pairs_are_read_and_their_mistakes_told(tmp_path):
    options = _options(tmp_path, ("anchor", "positive"), [("a", "b"), ("c", "d")])
    assert sentence_pairs.scored(options) == {}
    dev = tmp_path / "dev.tsv"
    dev.write_text("score\tsentence1\tsentence2\n4.5\ta\tb\n0\tc\td\n")
    options.dev_path = str(dev)
    found = sentence_pairs.scored(options)["dev"]
    assert found.labels == [4.5, 0.0] and found.apart == (["b", "d"],)
    dev.write_text("score\tsentence1\tsentence2\nhigh\ta\tb\n")
    with pytest.raises(DataError, match=r"dev\.tsv:2: score 'high' is not a number"):
        sentence_pairs.scored(options)
    dev.write_text("score\tsentence1\tsentence2\n3\ta\tb\n3\tc\td\n")
    with pytest.raises(DataError, match=r"dev\.tsv: all 2 scores are the same"):
        sentence_pairs.scored(options)
    for fields, told in (
        ({"scored_columns": "a"}, "names two columns"),
        ({"dropped_labels": "0"}, "share 0"),
    ):
        changed = options.copy_and_resolve_references()
        changed.update(fields)
        with pytest.raises(UserError, match=told):
            sentence_pairs.check(changed)


def test_the_embedded_pairs_keep_train_and_dev_apart_and_score_what_is_said():
    options = settings.default_config()
    options.update({"demo_num_triplets": 300, "demo_num_scored": 200})
    train, dev = demo_pairs.read(options).splits["train"], demo_pairs.scored(options)["dev"]
    assert train.labels == [1, 0] * 300 and min(dev.labels) < 1 and max(dev.labels) == 5
    texts = {text for column in (train.texts_a, *train.apart) for text in column}
    assert not texts & {*dev.texts_a, *dev.apart[0]}
    for first, second, score in zip(dev.texts_a, dev.apart[0], dev.labels, strict=True):
        assert first != second or score == 5
    again = demo_pairs.read(options).splits["train"]
    assert again == train
