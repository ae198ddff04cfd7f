"""Model folders that somebody else wrote: what is wrong is told with file and key or tensor before any compute."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codir_jax.compression import methods, packed
from codir_jax.convert import folder as folder_lib
from codir_jax.convert import labels, model_card, pretrained, save
from codir_jax.convert.labels import Labels
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.processes.user_error import UserError

GOLDEN = Path(__file__).parents[1] / "models" / "golden" / "bert_seqcls"
LAYER = "bert.encoder.layer.0.attention.self.query.weight"
WORDS = "bert.embeddings.word_embeddings.weight"


@pytest.fixture
def place(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    for name in ("config.json", folder_lib.WEIGHTS):
        shutil.copy(GOLDEN / name, target / name)
    return target


def rewrite(place, **changes):
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**6}, r"num_hidden_layers: expected a whole number, 1 to 1000, got 1000000"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers: expected"),
        ({"num_hidden_layers": 1000}, "config.json asks for 1000 layers, and the weights are .* tensors in all"),
        ({"num_hidden_layers": 1}, r"asks for fewer layers than the weights have: .* first \['bert.encoder.layer.1."),
        ({"vocab_size": 10**12}, "vocab_size: expected a whole number, 1 to 2147483647, got 1000000000000"),
        ({"vocab_size": 2147483647}, r"word_embeddings.weight has shape .*, config.json asks for \(2147483647, "),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings: expected"),
        ({"hidden_size": 2147483646, "num_attention_heads": 3}, "has shape"),
        ({"hidden_size": 2147483646, "num_attention_heads": 2147483645}, "does not divide hidden_size"),
        ({"intermediate_size": -1}, "intermediate_size: expected .* got -1"),
        ({"hidden_size": True}, "hidden_size: expected .* got True"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps: expected a number, 0 to below 1, got nan"),
        ({"layer_norm_eps": 1e300}, "layer_norm_eps: expected .* got 1e\\+300"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob: expected a number, 0 to below 1, got 1.0"),
        ({"pad_token_id": 10**6}, "pad_token_id 1000000 is no word"),
        ({"hidden_act": ["gelu"]}, r"hidden_act \['gelu'\] is not supported"),
        ({"model_type": {"a": 1}}, r"model_type \{'a': 1\} is not supported"),
        ({"id2label": "x"}, "id2label: expected .* got x"),
        ({"id2label": {"a": "b"}}, "id2label: expected"),
        ({"id2label": {"0": "a", "1": "b"}}, "a name for each of 3 outputs"),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "'a' is the name of two outputs"),
        ({"id2label": {"0": "a", "1": "b", "2": None}}, "expected a text for 2, got None"),
        ({"id2label": {"0": "a", "1": "b", "2": "\ud800"}}, "expected a text for 2"),
        ({"label2id": [1]}, "label2id: expected"),
        ({"problem_type": "regression"}, "problem_type 'regression' has one output, and the weights have 3"),
        ({"problem_type": ["regression"]}, "problem_type: expected"),
        ({"text_pair": "yes"}, "text_pair: expected true or false, got 'yes'"),
    ],
)
def test_a_config_that_cannot_be_is_refused_by_its_key(place, changes, message):
    rewrite(place, **changes)
    with pytest.raises(UserError, match=message) as error:
        load_pretrained(place)
    assert "config.json" in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "{", '{"a": 1, "a": 2}', "[" * 10**5, '{"a": ' + "9" * 5000 + "}"]
)
def test_what_is_no_config_at_all_is_refused_by_its_name(place, content):
    (place / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        load_pretrained(place)


def test_architectures_of_a_wrong_type_are_refused(place):
    rewrite(place, architectures=[5])
    with pytest.raises(UserError, match=r"config\.json: architectures: expected a list of class names, got \[5\]"):
        pretrained.stored_head(place)


def nan(tensors):
    tensors[LAYER][0, 0] = np.nan


def too_large(tensors):
    tensors[LAYER] = tensors[LAYER].astype(np.float64)
    tensors[LAYER][0, 0] = 1e300


def whole(dtype):
    def change(tensors):
        tensors[LAYER] = np.ones_like(tensors[LAYER], dtype)

    return change


def two_kinds_of_names(tensors):
    tensors[LAYER.removeprefix("bert.")] = tensors[LAYER]


def old_and_new_name(tensors):
    name = "bert.embeddings.LayerNorm.weight"
    tensors[name.replace("weight", "gamma")] = tensors[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan, f"model.safetensors: 1 of .* numbers of {LAYER} are NaN or infinite"),
        (too_large, f"1 of .* numbers of {LAYER} are NaN or infinite in float32"),
        (whole(np.int8), f"{LAYER} is of dtype int8; expected float64"),
        (whole(bool), f"{LAYER} is of dtype bool"),
        (two_kinds_of_names, "are names of two kinds"),
        (old_and_new_name, "two tensors are bert.embeddings.LayerNorm.weight"),
    ],
)
def test_weights_that_cannot_be_are_refused_by_file_and_tensor(place, change, message):
    tensors = load_file(place / folder_lib.WEIGHTS)
    change(tensors)
    save_file(tensors, place / folder_lib.WEIGHTS)
    with pytest.raises(UserError, match=message):
        load_pretrained(place)


def header(told, data=b""):
    text = json.dumps(told).encode() if isinstance(told, dict) else told
    return len(text).to_bytes(8, "little") + text + data


FOUR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 8, b"\xff" * 8, b"\xff" * 64, header(b"{"), header(b"[]"), header({"a": FOUR}),
        header({"a": {**FOUR, "shape": [10**12]}}, b"\0" * 4), header({"a": {**FOUR, "shape": [-1]}}, b"\0" * 4),
        header({"a": {**FOUR, "data_offsets": [0, 10**12]}}, b"\0" * 4), header({"a": {**FOUR, "dtype": "X"}}, b"1234"),
        header({"a": FOUR, "b": FOUR}, b"\0" * 4), header({"a": 1}), b"version https://git-lfs.github.com/spec/v1",
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused(place, content):
    (place / folder_lib.WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_pretrained(place)


@pytest.mark.parametrize(
    "told",
    [
        "[]", "{", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 5}}',
        '{"weight_map": {"a": "../b.safetensors"}}', '{"weight_map": {"a": "/etc/b.safetensors"}}',
        '{"weight_map": {"a": "..\\\\b.safetensors"}}', '{"weight_map": {"a": "pytorch_model.bin"}}',
    ],
)  # fmt: skip
def test_an_index_names_files_of_its_folder_only(place, told):
    (place / folder_lib.WEIGHTS).rename(place.parent / "b.safetensors")
    (place / folder_lib.INDEX).write_text(told)
    with pytest.raises(UserError, match=r"index\.json"):
        load_pretrained(place)


def test_a_tensor_in_two_shards_is_refused_and_one_set_of_shards_is_read(place):
    tensors = load_file(place / folder_lib.WEIGHTS)
    (place / folder_lib.WEIGHTS).unlink()
    parts = ({LAYER: tensors.pop(LAYER)}, tensors)
    names = ["a.safetensors", "b.safetensors"]
    (place / folder_lib.INDEX).write_text(json.dumps({"weight_map": dict(zip("ab", names, strict=True))}))
    for name, part in zip(names, parts, strict=True):
        save_file(part, place / name)
    assert load_pretrained(place).fingerprint == load_pretrained(GOLDEN).fingerprint
    save_file(parts[1] | parts[0], place / "b.safetensors")
    with pytest.raises(UserError, match=f"{LAYER} is in .*a.safetensors and in .*b.safetensors"):
        load_pretrained(place)


def packed_file(place, change):
    source = load_pretrained(place)
    weights, _ = methods.compress(source.params, methods.parse("rank2@pooler/kernel+prune50+int4"))
    save.save_weights(place, source.config, weights, head="classification")
    tensors = load_file(place / packed.FILE)
    with folder_lib.safe_open(place / packed.FILE, framework="numpy") as file:
        told = json.loads(file.metadata()[packed.KEY])
    change(told, tensors)
    save_file(tensors, place / packed.FILE, metadata={packed.KEY: json.dumps(told)})


def first(told, kind="dense"):
    return next(entry for entry in told.values() if entry["kind"] == kind)


@pytest.mark.parametrize(
    "change",
    [
        lambda told, tensors: first(told)["arrays"][0].update(shape=[10**7, 10**7]),
        lambda told, tensors: first(told)["arrays"][0].update(bits=0),
        lambda told, tensors: first(told)["arrays"][0].update(bits=32),
        lambda told, tensors: first(told)["arrays"][0].update(is_pruned=False, shape=[10**12]),
        lambda told, tensors: first(told).update(kind="pickle"),
        lambda told, tensors: first(told).update(shape=[1]),
        lambda told, tensors: first(told).update(arrays=[]),
        lambda told, tensors: first(told).update(arrays=5),
        lambda told, tensors: told.update(extra=5),
        lambda told, tensors: first(told, "low_rank")["arrays"].pop(),
    ],
)
def test_metadata_of_packed_weights_that_lie_are_refused(place, change):
    packed_file(place, change)
    with pytest.raises(UserError, match=r"packed\.safetensors is damaged or incomplete"):
        load_pretrained(place)


def test_packed_weights_that_are_not_finite_are_refused(place):
    def change(told, tensors):
        name = next(name for name in tensors if name.endswith(".scale"))
        tensors[name] = tensors[name] * np.float32(np.nan)

    packed_file(place, change)
    with pytest.raises(UserError, match=r"packed\.safetensors: .* are NaN or infinite"):
        load_pretrained(place)


def test_no_code_of_a_repository_is_named_in_what_is_written(tmp_path):
    source = load_pretrained(GOLDEN)
    foreign = {"auto_map": {"AutoModel": "evil.Model"}, "custom_pipelines": {"x": {}}, "quantization_config": {}}
    save.save_pretrained(tmp_path, source.config, source.params, hf_config={**foreign, "kept": 1})
    written = json.loads((tmp_path / "config.json").read_text())
    assert not foreign.keys() & written.keys() and written["kept"] == 1


def test_labels_are_read_as_they_were_written():
    told = labels.written(Labels(("no", "yes")), 2)
    assert labels.read(told, 2) == (("no", "yes"), False, False, None)
    assert labels.read(labels.written(Labels(), 3), 3) == (None, False, False, None)
    assert labels.read(labels.written(Labels(("a", "b"), is_multi_label=True), 2), 2) == (("a", "b"), False, True, None)
    assert labels.read({"problem_type": "regression"}, 1) == (None, True, False, None)
    assert labels.read({"problem_type": "multi_label_classification"}, 3) == (None, False, True, None)
    assert labels.read({"problem_type": "multi_label_classification"}, 1) == (None, False, True, None)  # no regression
    assert labels.read({"id2label": {"0": 5, "1": 7}, "text_pair": True}, 2) == (("5", "7"), False, False, True)


def test_a_model_card_shows_what_it_quotes_as_text():
    config = load_pretrained(GOLDEN).config
    names = ["a | b", "[x](http://evil)", "<script>\n---\n# big", "not_acceptable"]
    results = {"dev": {"matthews_correlation": 0.5, "x|y": "1|2"}}
    card = model_card.model_card(
        "m<b>", config, "classification", Labels(names), None, results, None, "t`\n# x", "passed", 16
    )
    assert "`0` a \\| b, `1` \\[x\\](http://evil), `2` &lt;script&gt; --- \\# big, `3` not_acceptable." in card
    assert "| dev x\\|y | 1\\|2 |" in card and "| dev matthews_correlation | 0.5 |" in card
    assert "# m&lt;b&gt;\n" in card and "`t' # x`" in card
    assert not [line for line in card.splitlines() if line.startswith(("# big", "# x"))]
