"""Checkpoints in and out. The folders are those of tests/models/golden."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from codir_jax.convert import fingerprint
from codir_jax.convert.labels import Labels
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained

GOLDEN = Path(__file__).parents[1] / "models" / "golden"
NAMES = ("bert_seqcls", "bert_mlm", "roberta_seqcls", "roberta_mlm")
WEIGHTS = "model.safetensors"


def head_of(name):
    return "masked_lm" if name.endswith("mlm") else "classification"


def same(a, b):
    a, b = traverse_util.flatten_dict(a), traverse_util.flatten_dict(b)
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.fixture
def folder(tmp_path):
    """A writable copy of a golden folder, by name."""

    def copy(name="bert_seqcls", change_config=None, change_weights=None):
        target = tmp_path / name
        target.mkdir()
        for file in ("config.json", WEIGHTS):
            shutil.copy(GOLDEN / name / file, target / file)
        if change_config:
            config = json.loads((target / "config.json").read_text())
            change_config(config)
            (target / "config.json").write_text(json.dumps(config))
        if change_weights:
            tensors = load_file(target / WEIGHTS)
            tensors = change_weights(tensors) or tensors
            save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
        return target

    return copy


@pytest.mark.parametrize("name", NAMES)
def test_writing_what_was_read_gives_the_same_tensors(name, tmp_path):
    loaded = load_pretrained(GOLDEN / name, head=head_of(name))
    assert loaded.has_head
    save_pretrained(tmp_path, loaded.config, loaded.params, head=head_of(name), hf_config=loaded.hf_config)
    source, written = load_file(GOLDEN / name / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert source.keys() == written.keys()
    for key, array in source.items():
        assert written[key].dtype == array.dtype == np.float32
        assert written[key].tobytes() == array.tobytes(), key


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_survives(name, tmp_path):
    loaded = load_pretrained(GOLDEN / name, head=head_of(name))
    save_pretrained(tmp_path, loaded.config, loaded.params, head=head_of(name), hf_config=loaded.hf_config)
    again = load_pretrained(tmp_path, head=head_of(name))
    assert again.config == loaded.config
    assert again.fingerprint == loaded.fingerprint
    assert again.hf_config["architectures"] == loaded.hf_config["architectures"]
    assert again.hf_config["tie_word_embeddings"] is True  # a key that is not ours is kept


def test_label_names_and_problem_type_are_written_and_read(tmp_path):
    loaded = load_pretrained(GOLDEN / "bert_seqcls")
    assert loaded.labels.names is None  # LABEL_0, ... are no names
    save_pretrained(tmp_path, loaded.config, loaded.params, labels=Labels(("no", "maybe", "yes")))
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["id2label"] == {"0": "no", "1": "maybe", "2": "yes"}
    assert written["label2id"] == {"no": 0, "maybe": 1, "yes": 2}
    assert written["problem_type"] == "single_label_classification"
    assert written["architectures"] == ["BertForSequenceClassification"]
    assert written["model_type"] == "bert"
    assert load_pretrained(tmp_path).labels.names == ("no", "maybe", "yes")


def test_regression_is_written_and_read(tmp_path):
    loaded = load_pretrained(GOLDEN / "roberta_seqcls", num_labels=1)
    save_pretrained(tmp_path, loaded.config, loaded.params, labels=Labels(is_regression=True))
    assert json.loads((tmp_path / "config.json").read_text())["problem_type"] == "regression"
    again = load_pretrained(tmp_path)
    assert (again.labels.is_regression, again.num_labels, again.has_head) == (True, 1, True)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"labels": Labels(("a", "b"))}, "2 label names .* for a head of 3 outputs"),
        ({"labels": Labels(("a", "b", "a"))}, "not distinct"),
        ({"labels": Labels(is_regression=True)}, "a regression head has 1 output, this one 3"),
        ({"head": "masked_lm"}, "params are not those of a bert masked_lm model"),
    ],
)
def test_writing_what_does_not_fit_is_refused(kwargs, message, tmp_path):
    loaded = load_pretrained(GOLDEN / "bert_seqcls")
    with pytest.raises(ValueError, match=message):
        save_pretrained(tmp_path, loaded.config, loaded.params, **kwargs)


def base_checkpoint(prefix, drop):
    """A base model's file: no head, no prefix, and the int64 position_ids of older versions."""

    def change(tensors):
        kept = {key.removeprefix(prefix): value for key, value in tensors.items() if not key.startswith(drop)}
        return {**kept, "embeddings.position_ids": np.arange(20, dtype=np.int64)[None]}

    return change


def test_a_bert_base_checkpoint_lends_encoder_and_pooler(folder):
    path = folder("bert_seqcls", change_weights=base_checkpoint("bert.", "classifier"))
    whole, base = load_pretrained(GOLDEN / "bert_seqcls"), load_pretrained(path, num_labels=4)
    assert not base.has_head
    assert base.new_weights == ("classifier/kernel", "classifier/bias")
    assert base.params["classifier"]["kernel"].shape == (12, 4)
    assert same({k: base.params[k] for k in ("encoder", "pooler")}, {k: whole.params[k] for k in ("encoder", "pooler")})


def test_a_roberta_base_checkpoint_lends_the_encoder(folder):
    path = folder("roberta_seqcls", change_weights=base_checkpoint("roberta.", "classifier"))
    base = load_pretrained(path)
    assert not base.has_head
    assert base.num_labels == 2
    assert {weight.split("/")[0] for weight in base.new_weights} == {"pooler", "classifier"}
    assert same(base.params["encoder"], load_pretrained(GOLDEN / "roberta_seqcls").params["encoder"])


def test_a_masked_lm_checkpoint_has_no_pooler_so_the_head_is_new(folder):
    loaded = load_pretrained(GOLDEN / "bert_mlm")
    assert not loaded.has_head
    assert {weight.split("/")[0] for weight in loaded.new_weights} == {"pooler", "classifier"}


def test_another_number_of_labels_draws_a_new_classifier_only(folder):
    other, whole = load_pretrained(GOLDEN / "bert_seqcls", num_labels=5), load_pretrained(GOLDEN / "bert_seqcls")
    assert (other.has_head, other.num_labels, other.labels.names) == (False, 5, None)
    assert other.new_weights == ("classifier/kernel", "classifier/bias")
    assert same(other.params["pooler"], whole.params["pooler"])


def test_a_new_head_is_drawn_by_the_seed():
    def kernel(seed):
        return load_pretrained(GOLDEN / "bert_seqcls", num_labels=200, rng_seed=seed).params["classifier"]["kernel"]

    np.testing.assert_array_equal(kernel(0), kernel(0))
    assert not np.array_equal(kernel(0), kernel(1))
    assert abs(kernel(0).std() - 0.2) < 0.02  # the golden models' initializer_range


def test_names_of_the_first_berts_are_understood(folder):
    def gamma_beta(tensors):
        renamed = {}
        for key, value in tensors.items():
            if "LayerNorm" in key:
                key = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            renamed[key] = value
        return renamed

    path = folder(change_weights=gamma_beta)
    assert same(load_pretrained(path).params, load_pretrained(GOLDEN / "bert_seqcls").params)


def test_float16_weights_are_widened_exactly(folder):
    path = folder(change_weights=lambda tensors: {key: value.astype(np.float16) for key, value in tensors.items()})
    kernel = load_pretrained(path).params["pooler"]["kernel"]
    source = load_file(GOLDEN / "bert_seqcls" / WEIGHTS)["bert.pooler.dense.weight"].T
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, source.astype(np.float16).astype(np.float32))


def test_a_sharded_checkpoint_is_read_through_its_index(folder):
    path = folder()
    tensors = load_file(path / WEIGHTS)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, path / file)
    weight_map = {key: file for file, keys in shards.items() for key in keys}
    (path / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (path / WEIGHTS).unlink()
    assert same(load_pretrained(path).params, load_pretrained(GOLDEN / "bert_seqcls").params)
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="fetch the missing shards"):
        load_pretrained(path)
    (path / f"{WEIGHTS}.index.json").write_text("[]")
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        load_pretrained(path)


def test_a_pickle_only_folder_says_how_to_convert(folder):
    path = folder()
    (path / WEIGHTS).rename(path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"(?s)only pytorch_model.bin, a pickle.*convert with.*save_pretrained"):
        load_pretrained(path)


def test_a_truncated_file_is_called_damaged(folder):
    path = folder()
    data = (path / WEIGHTS).read_bytes()
    for length in (len(data) - 100, 50, 3):
        (path / WEIGHTS).write_bytes(data[:length])
        with pytest.raises(ValueError, match="damaged or incomplete"):
            load_pretrained(path)


def test_a_missing_encoder_weight_is_named(folder):
    path = folder(change_weights=lambda t: {k: v for k, v in t.items() if "layer.1.attention.self.key" not in k})
    with pytest.raises(ValueError, match=r"2 of \d+ encoder weights are missing, first \['bert.encoder.layer.1"):
        load_pretrained(path)


@pytest.mark.parametrize("key", ["bert.encoder.layer.0.output.dense.weight", "bert.pooler.dense.weight"])
def test_a_weight_of_another_shape_is_named(folder, key):
    path = folder(change_weights=lambda tensors: tensors | {key: tensors[key][:, :5].copy()})
    with pytest.raises(ValueError, match=rf"{key} has shape \(12, 5\), config.json asks for"):
        load_pretrained(path)


def test_an_untied_decoder_is_refused_and_a_tied_copy_accepted(folder):
    word = "bert.embeddings.word_embeddings.weight"
    path = folder("bert_mlm", change_weights=lambda t: t | {"cls.predictions.decoder.weight": t[word].copy()})
    assert load_pretrained(path, head="masked_lm").has_head
    tensors = load_file(path / WEIGHTS)
    save_file(tensors | {"cls.predictions.decoder.weight": tensors[word] + 1}, path / WEIGHTS)
    with pytest.raises(ValueError, match="untied masked-LM decoder is not supported"):
        load_pretrained(path, head="masked_lm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "albert"}, "model_type 'albert' is not supported; known: bert, deberta-v2, distilbert"),
        ({"model_type": None}, "model_type None is not supported"),
        ({"hidden_act": "silu"}, "hidden_act 'silu' is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key' is not supported"),
        ({"is_decoder": True}, "describes a decoder"),
        ({"hidden_size": "12"}, "hidden_size: expected a whole number, 1 to 2147483647, got '12'"),
        ({"layer_norm_eps": None}, "layer_norm_eps: expected a number, 0 to below 1, got None"),
        ({"num_attention_heads": 5}, "num_heads 5 does not divide hidden_size 12"),
    ],
)
def test_a_configuration_that_is_not_ours_is_refused(folder, change, message):
    with pytest.raises(ValueError, match=message) as error:
        load_pretrained(folder(change_config=lambda config: config.update(change)))
    assert "config.json" in str(error.value)


def test_missing_or_broken_config(folder):
    path = folder()
    (path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        load_pretrained(path)
    (path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_pretrained(path)


def test_a_path_that_is_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_pretrained(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        load_pretrained(GOLDEN / "bert_seqcls" / "config.json")
    with pytest.raises(ValueError, match="neither a folder nor a valid hub name"):
        load_pretrained("not a name")


def test_a_hub_name_without_network_says_what_to_do(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*args, **kwargs):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=r"'roberta-base' is no local folder.*Check the name and the network"):
        load_pretrained("roberta-base")


def test_the_fingerprint_follows_the_weights():
    params = load_pretrained(GOLDEN / "bert_seqcls").params
    before = fingerprint.of_weights(params)
    assert before == fingerprint.of_weights(load_pretrained(GOLDEN / "bert_seqcls").params)
    params["pooler"]["bias"] = params["pooler"]["bias"].copy()
    params["pooler"]["bias"][0] += 1e-6
    assert fingerprint.of_weights(params) != before


@pytest.mark.parametrize(
    "change", [{"num_attention_heads": 2}, {"layer_norm_eps": 1e-3}, {"hidden_act": "relu"}, {"pad_token_id": 2}]
)
def test_the_fingerprint_of_a_model_follows_its_sizes_and_constants_too(folder, change):
    """Its outputs change though no weight does: what was cached of it must not be used again."""
    one = load_pretrained(GOLDEN / "bert_seqcls")
    path = folder(change_config=lambda config: config.update(change))
    other = load_pretrained(path)
    assert fingerprint.of_weights(other.params) == fingerprint.of_weights(one.params)
    assert other.fingerprint != one.fingerprint
    assert load_pretrained(path).fingerprint == other.fingerprint


def test_whole_numbers_written_as_floats_are_the_same_model(folder):
    path = folder(change_config=lambda config: config.update(hidden_size=12.0, hidden_dropout_prob=0))
    config = load_pretrained(path).config
    assert (type(config.hidden_size), type(config.hidden_dropout)) == (int, float)


def test_a_masked_lm_is_no_regression(folder):
    path = folder("bert_mlm", change_config=lambda config: config.update(problem_type="regression"))
    assert not load_pretrained(path, head="masked_lm").labels.is_regression
