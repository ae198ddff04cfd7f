"""A finished model in the runtime of a format: the same answers, in the same order; refusals."""

import json

import numpy as np
import pytest

import codir_jax
from codir_jax.convert.formats import contract, stablehlo
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.data.splits import Examples
from codir_jax.main import main
from codir_jax.predict.in_format import InFormat
from codir_jax.processes.user_error import UserError
from tests.predict.test_classifier import GOLDEN
from tests.words import tokenizer

TEXTS = ["the cat sat on the mat", "", "the cat sat the cat sat", "sat", "the the"]
HEADS = ("classification", "embedding")
# Of one-byte weights few digits are left.
TOLERANCE = {"stablehlo": 1e-5, "onnx": 1e-5, "onnx-int8": 0.2}


def made(folder, head):
    """A golden model; the vectors of the sentence encoder have norm 1."""
    source = load_pretrained(GOLDEN, head=head)
    facts = SentenceFacts(normalize=True) if head == "embedding" else None
    save_pretrained(folder, source.config, source.params, head=head, sentence=facts)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folders = {head: made(tmp_path_factory.mktemp(head), head) for head in HEADS}
    for head, folder in folders.items():
        (folder / "stablehlo").mkdir()
        stablehlo.write(folder, head)
    return folders


def of_lengths(lengths):
    """Texts of so many tokens."""
    tokens, none = np.zeros(sum(lengths), np.int32), np.zeros(len(lengths), np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Examples(tokens, tokens.astype(np.int8), offsets, none, none.astype(bool), none)


def answers(model, texts=TEXTS):
    return model.encode(texts) if hasattr(model, "encode") else np.array([row["logits"] for row in model(texts)])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["stablehlo", "onnx", "onnx-int8"])
def test_answers_are_those_of_the_folder(name, head, folders):
    for needed in contract._module(name).NEEDS:
        pytest.importorskip(needed)
    folder = folders[head]
    if name != "stablehlo":
        (folder / "onnx").mkdir(exist_ok=True)
        for each in ("onnx", name):
            contract._module(each).write(folder, head)
    expected = answers(codir_jax.load(folder))
    for batch_size in (2, 32):
        model = codir_jax.load(folder, format=name, batch_size=batch_size)
        model.warm_up()
        np.testing.assert_allclose(answers(model), expected, atol=TOLERANCE[name] * np.abs(expected).max())
        assert len(answers(model, [])) == 0


def test_a_runtime_that_compiles_nothing_gets_no_padding():
    """Batches of 2, shortest first; the last one has one text."""
    shapes = []

    def run(tokens, mask, types):
        shapes.append(tokens.shape)
        assert mask.shape == types.shape == tokens.shape
        return mask.sum(1, keepdims=True)

    lengths = [5, 3, 9]
    examples = of_lengths(lengths)
    found = InFormat(run, False, 0, 16).all(examples, 2)
    assert found.ravel().tolist() == lengths and shapes == [(2, 5), (1, 9)]
    shapes.clear()
    assert InFormat(run, True, 0, 16).all(examples, 2).ravel().tolist() == lengths and shapes == [(2, 8), (2, 16)]


def test_nan_is_no_answer():
    with pytest.raises(UserError, match="answer for text 1 is NaN"):
        InFormat(lambda tokens, *_: np.full((len(tokens), 2), np.nan), False, 0, 8).all(of_lengths([3]), 4)


def test_what_is_not_there_is_refused_with_what_to_do(folders, tmp_path):
    bare = made(tmp_path / "bare", "classification")
    with pytest.raises(UserError, match="no model in the format stablehlo; make one: codir export --model="):
        codir_jax.load(bare, format="stablehlo")
    with pytest.raises(UserError, match="--format=tflite; known: huggingface, onnx, onnx-int8, stablehlo"):
        codir_jax.load(folders["classification"], format="tflite")


def test_the_verbs_answer_by_it(folders, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("the cat sat\nsat\n", encoding="utf-8")
    output = tmp_path / "answers.jsonl"
    flags = ["--format=stablehlo", f"--input={texts}"]
    assert main(["predict", f"--model={folders['classification']}", *flags, f"--output={output}"]) == 0
    expected = codir_jax.load(folders["classification"])(["the cat sat", "sat"])
    found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    np.testing.assert_allclose([row["logits"] for row in found], [row["logits"] for row in expected], atol=1e-5)
    assert main(["embed", f"--model={folders['embedding']}", *flags, f"--output={tmp_path / 'vectors.npy'}"]) == 0
    expected = codir_jax.load(folders["embedding"]).encode(["the cat sat", "sat"])
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-5)
