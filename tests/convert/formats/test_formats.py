"""A model in the formats of other runtimes answers as the model does; what it does not is refused."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from codir_jax.compression import methods
from codir_jax.convert import export as exports
from codir_jax.convert import in_torch
from codir_jax.convert.formats import contract
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained, save_weights
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.models.heads import build_model, init_params
from codir_jax.models.recurrent_encoder import LSTMConfig
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox

GOLDEN = Path(__file__).parents[2] / "models" / "golden"
BATCH = {
    "input_ids": np.array([[2, 7, 8, 9, 3, 4], [2, 9, 3, 0, 0, 0]], np.int32),
    "attention_mask": np.array([[1] * 6, [1, 1, 1, 0, 0, 0]], np.int32),
    "token_type_ids": np.zeros((2, 6), np.int32),
}


def folder_of(name, path):
    """A copy of a golden checkpoint with a tokenizer's config; RoBERTa's padding has the id 1."""
    shutil.copytree(GOLDEN / name, path)
    (path / "tokenizer_config.json").write_text("{}")
    pad = 1 if name.startswith("roberta") else 0
    return path, {**BATCH, "input_ids": np.where(BATCH["attention_mask"], BATCH["input_ids"], pad)}


def axes(folder):
    """Name -> axes of each input and output of a folder's ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    return {one.name: one.shape for one in (*session.get_inputs(), *session.get_outputs())}


@pytest.mark.parametrize("name", ["bert_seqcls", "roberta_seqcls", "modernbert_seqcls"])
def test_stablehlo_answers_as_the_model_for_any_batch_and_length(name, tmp_path):
    pytest.importorskip("flatbuffers")
    folder, batch = folder_of(name, tmp_path / "model")
    [written] = contract.write(folder, ["huggingface", "stablehlo"], "classification", batch)
    assert written.passed and written.bound == 1e-4 and "stablehlo parity passed: largest difference" in str(written)
    assert written.num_bytes == (folder / "stablehlo" / "model.bin").stat().st_size
    # By JAX alone, as the docstring tells, and against golden logits of transformers.
    program = jax.export.deserialize(bytearray((folder / "stablehlo" / "model.bin").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    golden = np.load(GOLDEN / name / "io.npz")
    inputs = [golden[key].astype(np.int32) for key in exports.INPUTS]
    np.testing.assert_allclose(program.call(*inputs), golden["logits"], atol=1e-4)


def test_a_format_that_computes_something_else_is_left_out(tmp_path, monkeypatch):
    pytest.importorskip("flatbuffers")
    folder, batch = folder_of("bert_seqcls", tmp_path / "model")
    apply = exports.apply
    monkeypatch.setattr(exports, "apply", lambda *arguments: apply(*arguments) + 2e-4)
    [written] = contract.write(folder, ["stablehlo"], "classification", batch)
    assert not written.passed and "stablehlo parity FAILED, left out: largest difference" in str(written)
    assert contract.present(folder, ["huggingface", "stablehlo"]) == ["huggingface"]


def test_an_error_of_rounding_is_a_share_of_all_answers():
    small, large = (np.full((2, 2), size, np.float32) for size in (0.1, 10.0))
    assert contract._error([(large + 1, large), (small + 0.1, small)]) == pytest.approx(0.1005, rel=1e-3)
    assert contract._error([(large, large), (large[:1], large)]) == float("inf")


def test_vectors_are_served_as_the_folder_says(tmp_path):
    """Normalised; alone and padded beside a longer text they are the same."""
    pytest.importorskip("flatbuffers")
    source = load_pretrained(GOLDEN / "bert_seqcls", head="embedding")
    folder = save_pretrained(
        tmp_path / "model", source.config, source.params, head="embedding", sentence=SentenceFacts(normalize=True)
    )
    contract.write(folder, ["stablehlo"], "embedding", BATCH)
    run = contract.load(folder, "stablehlo")
    vectors = run(*(BATCH[name] for name in exports.INPUTS))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(run(*(BATCH[name][1:, :3] for name in exports.INPUTS)), vectors[1:], atol=1e-6)


@pytest.mark.parametrize("name", ["bert_seqcls", "roberta_seqcls"])
def test_onnx_and_its_int8_answer_as_the_model(name, tmp_path):
    for needed in ("torch", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    folder, batch = folder_of(name, tmp_path / "model")
    written = contract.write(folder, ["onnx-int8"], "classification", batch)
    assert [one.name for one in written] == ["onnx-int8"] and written[0].is_rounded and 0 < written[0].difference < 0.1
    assert not (folder / "onnx" / "model.onnx").exists()  # it was made on the way
    exact, rounded = contract.write(folder, ["onnx", "onnx-int8"], "classification", batch)
    named = axes(folder)
    assert named.pop("logits")[0] == "batch" and all(one == ["batch", "length"] for one in named.values())
    assert exact.passed and exact.difference < 1e-5 and rounded.num_bytes < exact.num_bytes


def test_a_sentence_encoder_in_onnx_is_one_of_sentence_transformers(tmp_path):
    for needed in ("torch", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    import onnxruntime

    source = load_pretrained(GOLDEN / "bert_seqcls", head="embedding")
    folder = save_pretrained(
        tmp_path / "model", source.config, source.params, head="embedding", sentence=SentenceFacts(normalize=True)
    )
    (folder / "tokenizer_config.json").write_text("{}")
    [written] = contract.write(folder, ["onnx"], "embedding", BATCH)
    assert written.passed and written.bound == 1e-5
    names = [output.name for output in onnxruntime.InferenceSession(folder / "onnx" / "model.onnx").get_outputs()]
    assert names == ["sentence_embedding", "last_hidden_state"]


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_in_onnx_answers_as_the_model_and_goes_on_from_its_state(tied, tmp_path):
    for needed in ("torch", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    config = LSTMConfig(11, 0, 8, tie_embeddings=tied, initializer_range=0.5)
    params = jax.device_get(unbox(init_params(build_model(config, "language_model"), jax.random.key(0))))
    folder = save_pretrained(tmp_path / "model", config, params, head="language_model")
    [theirs] = in_torch.answers(folder, BATCH, "language_model")
    np.testing.assert_allclose(
        theirs,
        exports.answers_of(load_pretrained(folder, head="language_model"), "language_model", [*BATCH.values()]),
        atol=1e-5,
    )
    exact, rounded = contract.write(folder, ["onnx", "onnx-int8"], "language_model", BATCH)
    assert exact.passed and exact.difference < 1e-5 and rounded.passed and rounded.difference > 0
    assert axes(folder) == {
        "input_ids": ["batch", "length"],
        **{name: [2, "batch", 8] for name in ("h_0", "c_0", "h_n", "c_n")},
        "logits": ["batch", "length", 11],
    }
    run = contract.load(folder, "onnx")
    ids = np.array([[2, 7, 8, 9, 3], [1, 4, 4, 5, 6]], np.int32)
    whole, _ = run.step(ids)
    _, state = run.step(ids[:, :2])
    np.testing.assert_allclose(run.step(ids[:, 2:], state)[0], whole[:, 2:], atol=1e-6)
    assert 'session.run(None, {"input_ids": ids, **state})' in contract.in_card(["onnx"], "language_model")


def test_factors_of_a_language_model_are_multiplied_out_for_torch(tmp_path):
    pytest.importorskip("torch")
    config = LSTMConfig(11, 0, 8, initializer_range=0.5)
    params = jax.device_get(unbox(init_params(build_model(config, "language_model"), jax.random.key(0))))
    weights, _ = methods.compress(params, methods.parse("rank2@.*embedding"))
    folder = save_weights(tmp_path / "model", config, weights, head="language_model")
    assert not (folder / "model.safetensors").exists()
    [theirs] = in_torch.answers(folder, BATCH, "language_model")
    ours = exports.answers_of(load_pretrained(folder, head="language_model"), "language_model", [*BATCH.values()])
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_factors_of_a_classifier_are_not_compared_with_torch(tmp_path):
    """transformers reads none; a format that is made by it is refused."""
    pytest.importorskip("torch")
    source = load_pretrained(GOLDEN / "bert_seqcls")
    weights, _ = methods.compress(source.params, methods.parse("rank2"))
    folder = save_weights(tmp_path / "model", source.config, weights, head="classification")
    assert not [*in_torch.answers(folder, BATCH, "classification")]
    with pytest.raises(UserError, match="holds factors of weights"):
        in_torch.load(folder, "AutoModelForSequenceClassification")


def test_what_cannot_be_written_is_refused_with_what_to_do(monkeypatch):
    with pytest.raises(UserError, match="--format=tflite; known: huggingface, onnx, onnx-int8, stablehlo"):
        contract.require(["onnx", "tflite"])
    monkeypatch.setattr(contract.importlib.util, "find_spec", lambda name: None)
    contract.require(["huggingface"])
    with pytest.raises(UserError, match=r"needs torch, onnx, .* not installed: pip install 'codir-jax\[onnx\]'"):
        contract.require(["onnx-int8"])
    monkeypatch.undo()
    monkeypatch.setattr(
        contract, "_modules", lambda: {"stablehlo": type("M", (), {"NEEDS": (), "HEADS": ("embedding",)})}
    )
    with pytest.raises(UserError, match="has a masked_lm head"):
        contract.require(["stablehlo"], "masked_lm")
