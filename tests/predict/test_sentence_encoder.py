"""Vectors of texts: order, length, normalisation, many devices; and the file that `codir embed` leaves."""

import io
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import codir_jax
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.main import main
from codir_jax.predict import sentence_encoder
from codir_jax.processes.user_error import UserError
from tests.words import tokenizer

GOLDEN = Path(__file__).parents[1] / "models" / "golden" / "bert_seqcls"
TEXTS = ["the cat sat", "cat", "", "the cat sat the cat sat the cat sat the", "sat", "a dog", "the cat sat", "sat the"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    source = load_pretrained(GOLDEN, head="embedding")
    save_pretrained(folder, source.config, source.params, head="embedding", sentence=SentenceFacts(max_length=8))
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def encoder(folder):
    return codir_jax.load(folder, batch_size=3)  # 8 on 8 devices


def by_the_module(encoder):
    """All texts in one batch of the longest length, in their order."""
    inputs = encoder.tokenizer(
        TEXTS, truncation=True, max_length=8, padding=True, return_tensors="np", return_token_type_ids=True
    )
    arrays = [inputs[name].astype(np.int32) for name in ("input_ids", "attention_mask", "token_type_ids")]
    module = encoder._runtime.module
    return np.asarray(jax.jit(module.apply)({"params": encoder.source.params}, *arrays).vectors)


def test_vectors_come_in_the_order_of_the_texts(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (8, 12)
    np.testing.assert_allclose(vectors, by_the_module(encoder), atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[6])
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1] * 3, batch_size=5)[:8], vectors[::-1], atol=1e-6)


def test_no_texts_have_no_vectors(encoder):
    assert encoder.encode([]).shape == (0, 12)


def test_normalised_vectors_have_norm_one(encoder, folder, tmp_path):
    unit = encoder.encode(TEXTS, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    source = load_pretrained(folder, head="embedding")
    save_pretrained(tmp_path, source.config, source.params, head="embedding", sentence=SentenceFacts(normalize=True))
    tokenizer().save_pretrained(tmp_path)
    np.testing.assert_allclose(codir_jax.load(str(tmp_path)).encode(["cat"]), unit[1:2], atol=1e-6)


@pytest.mark.parametrize(("texts", "message"), [("cat", "write \\[text\\]"), (["cat", None], "text 1 is None")])
def test_what_is_no_list_of_texts_is_refused(texts, message, encoder):
    with pytest.raises(UserError, match=message):
        encoder.encode(texts)


def test_a_stream_is_encoded_part_by_part(encoder, monkeypatch):
    monkeypatch.setattr(sentence_encoder, "CHUNK", 3)
    parts = list(encoder.encode_stream(iter(TEXTS)))
    assert [len(texts) for texts, _ in parts] == [3, 3, 2]
    np.testing.assert_allclose(np.concatenate([v for _, v in parts]), encoder.encode(TEXTS), atol=1e-6)


def embed(folder, *flags):
    return main(["embed", f"--model={folder}", *map(str, flags)])


def test_every_kind_of_file_holds_the_same_vectors(folder, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(sentence_encoder, "CHUNK", 3)
    (tmp_path / "t.txt").write_text("\n".join(TEXTS) + "\n")
    (tmp_path / "t.csv").write_text("id,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(TEXTS)))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"sentence": text}) + "\n" for text in TEXTS))
    npy, safe, lines = (tmp_path / f"v.{kind}" for kind in ("npy", "safetensors", "jsonl"))
    assert embed(folder, f"--input={tmp_path / 't.txt'}", f"--output={npy}") == 0
    assert embed(folder, f"--input={tmp_path / 't.csv'}", "--text_column=text", f"--output={safe}") == 0
    assert embed(folder, f"--input={tmp_path / 't.jsonl'}", f"--output={lines}", "--normalize") == 0
    expected = encoder.encode(TEXTS)
    np.testing.assert_allclose(np.load(npy, mmap_mode="r"), expected, atol=1e-6)
    np.testing.assert_allclose(load_file(safe)["vectors"], expected, atol=1e-6)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    unit = encoder.encode(TEXTS, normalize=True)
    np.testing.assert_allclose([row["vector"] for row in rows], unit, atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"t.txt", "t.csv", "t.jsonl", npy.name, safe.name, lines.name}


def test_standard_input_makes_lines_on_standard_output(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cat\n\nsat")))
    assert embed(folder, "--output=-") == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["cat", "", "sat"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input=nothing.txt", "--output=v.npy"], "no file 'nothing.txt'"),
        (["--input=t.xml", "--output=v.npy"], "unknown format"),
        (["--output=v.csv"], "ends in .npy, .safetensors, .jsonl"),
        (["--output=there.npy"], "is there already"),
        (["--output=no/v.npy"], "there is no folder no"),
        (["--output=v.npy", "--batch_size=0"], "--batch_size must be at least 1"),
    ],
)
def test_bad_flags_are_refused_before_the_model_is_read(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("there.npy", "t.xml"):
        (tmp_path / name).write_text("x")
    assert embed("no-such-model", *flags) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "there.npy").read_text() == "x"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_stop_leaves_nothing_half(error, folder, tmp_path, monkeypatch):
    (tmp_path / "t.txt").write_text("cat\nsat\n")
    monkeypatch.setattr(sentence_encoder, "CHUNK", 1)
    encode, calls = sentence_encoder.SentenceEncoder.encode, []

    def stopped(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise error
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(sentence_encoder.SentenceEncoder, "encode", stopped)
    arguments = [f"--input={tmp_path / 't.txt'}", f"--output={tmp_path / 'v.npy'}"]
    if error is KeyboardInterrupt:
        assert embed(folder, *arguments) == 130
    else:
        with pytest.raises(error):
            embed(folder, *arguments)
    assert len(calls) == 2 and [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_a_broken_line_is_told_with_its_number(folder, tmp_path, capsys):
    (tmp_path / "t.jsonl").write_text('{"sentence": "cat"}\n{"sentence": 3}\n')
    assert embed(folder, f"--input={tmp_path / 't.jsonl'}", f"--output={tmp_path / 'v.npy'}") == 2
    assert "t.jsonl:2: expected a text in column 'sentence'" in capsys.readouterr().err
    assert not (tmp_path / "v.npy").exists()


def test_a_classifier_is_no_sentence_encoder_by_itself(folder, capsys):
    from codir_jax.predict import classifier

    with pytest.raises(UserError, match=r"no classifier but a sentence-similarity model.*codir embed --model="):
        classifier.load(folder)
