"""Folders of sentence-transformers: what is read, what is written, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codir_jax.convert import export as exports
from codir_jax.convert import sentence_folder
from codir_jax.convert.pretrained import load_pretrained, stored_head
from codir_jax.convert.save import save_pretrained
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.processes.user_error import MissingFileError, UserError
from tests.words import tokenizer

GOLDEN = Path(__file__).parents[1] / "models" / "golden"
BATCH = {
    "input_ids": np.array([[2, 5, 6, 7, 3], [2, 7, 3, 0, 0]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32),
    "token_type_ids": np.zeros((2, 5), np.int32),
}


def write(folder, modules=("Transformer", "Pooling"), pooling=None, bert=None, prompts=None, dense=None):
    """A folder as versions of the library have written it, without an encoder."""
    paths = ["" if name == "Transformer" else f"{i}_{name}" for i, name in enumerate(modules)]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(zip(paths, modules, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    for name, content in (("1_Pooling", pooling), ("2_Dense", dense)):
        if content is not None:
            (folder / name).mkdir()
            (folder / name / "config.json").write_text(json.dumps(content))
    for name, content in (("sentence_bert_config.json", bert), ("config_sentence_transformers.json", prompts)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))


OLD = {"word_embedding_dimension": 12, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
TANH = {"in_features": 12, "out_features": 12, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}


def test_the_older_form_is_read(tmp_path):
    write(tmp_path, ("Transformer", "Pooling", "Normalize"), OLD, {"max_seq_length": 9, "do_lower_case": True})
    assert sentence_folder.read(tmp_path) == SentenceFacts("mean", True, 9, True)


def test_the_newer_form_is_read(tmp_path):
    write(tmp_path, pooling={"embedding_dimension": 12, "pooling_mode": "cls", "include_prompt": True}, bert={})
    names = ("base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling")
    listed = json.loads((tmp_path / "modules.json").read_text())
    for module, name in zip(listed, names, strict=True):
        module["type"] = f"sentence_transformers.{name}"
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    assert sentence_folder.read(tmp_path) == SentenceFacts("cls")


def test_a_folder_without_modules_has_no_facts(tmp_path):
    assert sentence_folder.read(tmp_path) is None


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"modules": ("Transformer", "Pooling", "CNN"), "pooling": OLD}, "Transformer -> Pooling -> CNN; expected"),
        ({"pooling": {"pooling_mode": "lasttoken"}}, "pooling lasttoken is not supported; known: mean, cls"),
        ({"pooling": {**OLD, "pooling_mode_max_tokens": True}}, "pooling mean \\+ max is not supported|max \\+ mean"),
        ({"pooling": {**OLD, "include_prompt": False}}, "include_prompt false"),
        ({"pooling": OLD, "prompts": {"default_prompt_name": "query"}}, "a prompt \\('query'\\)"),
        ({"pooling": OLD, "bert": {"max_seq_length": 0}}, "max_seq_length must be a whole number"),
        (
            {"modules": ("Transformer", "Pooling", "Dense"), "pooling": OLD, "dense": TANH},
            "Dense module of 12 to 12 features, activation Tanh, after pooling mean is not supported",
        ),
        (
            {
                "modules": ("Transformer", "Pooling", "Dense"),
                "pooling": {"pooling_mode": "cls"},
                "dense": {**TANH, "out_features": 6},
            },
            "Dense module of 12 to 6",
        ),
    ],
)
def test_what_is_not_known_is_refused_by_name(told, message, tmp_path):
    write(tmp_path, **told)
    with pytest.raises(UserError, match=message):
        sentence_folder.read(tmp_path)


def test_a_folder_that_is_not_whole_says_what_is_missing(tmp_path):
    write(tmp_path)
    with pytest.raises(MissingFileError, match=r"no .*1_Pooling/config.json"):
        sentence_folder.read(tmp_path)


def encoder(name="bert_seqcls", pooling="mean"):
    return load_pretrained(GOLDEN / name, head="embedding", pooling=pooling)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_the_vector_is_the_pooled_last_state(pooling):
    source = encoder(pooling=pooling)
    io = np.load(GOLDEN / "bert_seqcls" / "io.npz")
    inputs = [io[name].astype(np.int32) for name in exports.INPUTS]
    vectors = np.asarray(exports._forward(source.config, "embedding", 1, is_unit=False)(source.params, *inputs))
    states, mask = io[f"hidden_{source.config.num_layers}"], inputs[1][..., None]
    weights = load_file(GOLDEN / "bert_seqcls" / "model.safetensors")
    dense = (weights["bert.pooler.dense.weight"], weights["bert.pooler.dense.bias"])
    expected = {
        "mean": (states * mask).sum(1) / mask.sum(1),
        "cls": states[:, 0],
        "pooler": np.tanh(states[:, 0] @ dense[0].T + dense[1]),
    }[pooling]
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize(("pooling", "normalize"), [("mean", False), ("cls", True), ("pooler", True)])
def test_what_was_exported_is_read_with_its_pooling(pooling, normalize, tmp_path):
    source = encoder(pooling=pooling)
    facts = SentenceFacts(normalize=normalize, max_length=11)
    verdict = exports.export(
        tmp_path, source.config, source.params, tokenizer(), head="embedding", sentence=facts, sample_batch=BATCH
    )
    assert verdict.passed and verdict.max_abs_difference_jax == 0.0 and "bound 1e-05" in str(verdict)
    again = load_pretrained(tmp_path, head="embedding")
    assert (again.config, again.fingerprint) == (source.config, source.fingerprint)
    assert (again.sentence.normalize, again.sentence.max_length) == (normalize, 11)
    assert stored_head(tmp_path) == "embedding"
    assert json.loads((tmp_path / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"] == (
        pooling == "mean"
    )
    names = [module["type"].rpartition(".")[2] for module in json.loads((tmp_path / "modules.json").read_text())]
    assert names == ["Transformer", "Pooling", *["Dense"] * (pooling == "pooler"), *["Normalize"] * normalize]
    card = (tmp_path / "README.md").read_text()
    assert "library_name: sentence-transformers" in card and "At most 11 tokens" in card
    assert ("of norm 1" in card) == normalize


def test_an_encoder_alone_is_written_under_the_names_of_auto_model(tmp_path):
    source = encoder("roberta_mlm")
    save_pretrained(tmp_path, source.config, source.params, head="embedding")
    assert "embeddings.word_embeddings.weight" in load_file(tmp_path / "model.safetensors")
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["RobertaModel"]


def test_another_pooling_in_the_folder_fails_the_verdict(tmp_path):
    source = encoder()
    save_pretrained(tmp_path, source.config, source.params, head="embedding")
    sentence_folder.write(tmp_path, SentenceFacts("cls"), source.config.hidden_size)
    assert not exports.check_parity(tmp_path, source.config, source.params, BATCH, "embedding").passed


def test_the_dense_module_is_what_counts_as_pooler(tmp_path):
    source = encoder(pooling="pooler")
    save_pretrained(tmp_path, source.config, source.params, head="embedding")
    path = tmp_path / "2_Dense" / "model.safetensors"
    save_file({name: array + 1 for name, array in load_file(path).items()}, path)
    again = load_pretrained(tmp_path, head="embedding")
    np.testing.assert_array_equal(again.params["pooler"]["kernel"], source.params["pooler"]["kernel"] + 1)


def test_other_libraries_compute_the_same_vectors(tmp_path):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    from codir_jax.predict import sentence_encoder

    texts = ["the cat", "the cat sat the cat sat", "", "the"]
    for pooling in ("mean", "cls", "pooler"):
        for name, normalize in (("bert_seqcls", True), ("bert_seqcls", False)):
            source, folder = encoder(name, pooling), tmp_path / f"{pooling}{normalize}"
            verdict = exports.export(
                folder,
                source.config,
                source.params,
                tokenizer(),
                head="embedding",
                sentence=SentenceFacts(normalize=normalize, max_length=6),
                sample_batch=BATCH,
            )
            assert verdict.max_abs_difference_torch <= 1e-5
            ours = sentence_encoder.load(str(folder)).encode(texts)
            np.testing.assert_allclose(ours, SentenceTransformer(str(folder), device="cpu").encode(texts), atol=1e-5)
