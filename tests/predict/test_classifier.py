"""A finished classifier: what it takes, how much it runs, and the rows that `codir predict` answers."""

import io
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import codir_jax
from codir_jax.convert.labels import Labels
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained
from codir_jax.main import main
from codir_jax.predict import on_devices
from codir_jax.processes.user_error import UserError
from tests.words import tokenizer

GOLDEN = Path(__file__).parents[1] / "models" / "golden" / "bert_seqcls"
TEXTS = ["the cat sat", "", "the cat sat the cat sat"]
PAIRS = [("the cat", "sat"), ("sat", "the cat")]


def made(folder, is_pair):
    source = load_pretrained(GOLDEN)
    save_pretrained(folder, source.config, source.params, labels=Labels(is_pair=is_pair))
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("single"), False)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return made(tmp_path_factory.mktemp("pairs"), True)


@pytest.fixture(scope="module")
def classify(folder):
    return codir_jax.load(folder)


@pytest.mark.parametrize("kind", [tuple, np.asarray, iter], ids=["tuple", "numpy", "iterator"])
def test_texts_come_in_any_container(kind, classify):
    assert classify(kind(TEXTS)) == classify(TEXTS)
    assert classify(kind([])) == []


@pytest.mark.parametrize("kind", [list, tuple, np.asarray], ids=["list", "tuple", "numpy"])
def test_pairs_come_as_rows_or_as_two_columns(kind, pairs):
    classify = codir_jax.load(pairs)
    answers = classify(*map(list, zip(*PAIRS, strict=True)))
    assert classify(kind(PAIRS)) == answers
    assert answers[0]["logits"] != answers[1]["logits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one text",), "write \\[text\\]"),
        ((["a", None],), "text 1 is None"),
        ((["a", 3.5],), "text 1 is 3.5"),
        (([*PAIRS, "a"],), "text 2 is 'a'; expected a pair"),
        ((["a", "b"], ["c"]), "a second text for each of 2 texts, got 1"),
        ((["a"], [None]), "second text 0 is None"),
        ((PAIRS,), "answers single texts, and got pairs"),
    ],
)
def test_what_it_cannot_answer_is_refused(arguments, message, classify):
    with pytest.raises(UserError, match=message):
        classify(*arguments)


def test_a_model_of_pairs_answers_no_single_texts(pairs, capsys, monkeypatch):
    with pytest.raises(UserError, match="answers pairs of texts, and got single texts"):
        codir_jax.load(pairs)(["the cat sat"])
    assert main(["predict", f"--model={pairs}"]) == 2
    assert "--text_pair_column" in capsys.readouterr().err


def test_a_batch_has_the_size_of_what_comes(folder, monkeypatch):
    """One text is not padded to 32, and three texts are a batch of four: on one device."""
    seen = []
    collect = on_devices.runner.collect

    def spy(forward, params, batches, *rest):
        batches = list(batches)
        seen.extend(batch["input_ids"].shape for batch in batches)
        return collect(forward, params, batches, *rest)

    monkeypatch.setattr(on_devices.runner, "collect", spy)
    classify = codir_jax.load(folder, batch_size=32)
    make_mesh = on_devices.mesh_lib.make_mesh
    monkeypatch.setattr(on_devices.mesh_lib, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
    for texts in (["cat"], TEXTS, ["cat"] * 70):
        classify(texts)
    assert seen == [(1, 8), (4, 8), (32, 8), (32, 8), (32, 8)]
    seen.clear()
    classify.warm_up((1, 2))
    assert seen == [(rows, length) for rows in (1, 2) for length in (8, 16, 20)]  # the model has 20 positions
    assert classify(["cat " * 40])[0] == classify(["cat " * 50])[0]


def test_every_line_is_answered_and_echoed(folder, tmp_path, capsys, monkeypatch):
    """Blank ones too, so that line i of the output is line i of the input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the cat\n\nsat\n")))
    assert main(["predict", f"--model={folder}", "--echo"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["line"], row["text"]) for row in rows] == [(1, "the cat"), (2, ""), (3, "sat")]
    assert list(rows[0]) == ["line", "text", "label", "probabilities", "logits"]


def test_ids_and_pairs_of_a_table_are_echoed(pairs, tmp_path, capsys):
    (tmp_path / "t.csv").write_text('key,a,b\nx7,"the, cat",sat\nx8,sat,\n')
    (tmp_path / "t.jsonl").write_text('{"key": 7, "a": "the cat", "b": "sat"}\n')
    model = f"--model={pairs}"
    flags = ["--text_column=a", "--text_pair_column=b", "--echo", "--id_column=key"]
    assert main(["predict", model, f"--input={tmp_path / 't.csv'}", *flags]) == 0
    assert main(["predict", model, f"--input={tmp_path / 't.jsonl'}", *flags]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(row["line"], row["id"], row["text"], row["text_pair"]) for row in rows]
    assert told == [(2, "x7", "the, cat", "sat"), (3, "x8", "sat", ""), (1, 7, "the cat", "sat")]
    assert main(["predict", model, f"--input={tmp_path / 't.csv'}", *flags[:3], "--id_column=kay"]) == 2
    assert "did you mean 'key'" in (told := capsys.readouterr().err.lower()) and "--id_column" in told
