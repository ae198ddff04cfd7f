"""Export: what the folder holds, the card, and the parity verdict."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from codir_jax.convert import export as exports
from codir_jax.convert.folder import without_path
from codir_jax.convert.labels import Labels
from codir_jax.convert.model_card import Provenance
from codir_jax.convert.pretrained import load_pretrained

GOLDEN = Path(__file__).parents[1] / "models" / "golden"
LABELS = ("bad", "fair", "good")
BATCH = {
    "input_ids": np.array([[2, 7, 8, 9, 3], [2, 9, 3, 0, 0]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32),
    "token_type_ids": np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]], np.int32),
}


def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def run_export(folder, name="bert_seqcls", **changes):
    loaded = load_pretrained(GOLDEN / name)
    arguments = {
        "labels": Labels(LABELS),
        "sample_batch": BATCH,
        "results": {"dev": {"accuracy": 0.91234, "note": "a | b"}},
        "training_config": {"objective": {"name": "codir"}},
        "teacher_name": "roberta-base",
        "hf_config": loaded.hf_config,
    }
    return loaded, exports.export(folder, loaded.config, loaded.params, tokenizer(), **(arguments | changes))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "student"
    loaded, verdict = run_export(folder)
    return folder, loaded, verdict


def test_the_verdict_passes(exported):
    _, _, verdict = exported
    assert verdict.passed
    assert verdict.max_abs_difference_jax == 0.0
    assert verdict.num_examples == 2
    assert "parity passed" in str(verdict)


def test_transformers_loads_config_and_tokenizer(exported):
    folder, loaded, _ = exported
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == "bert"
    assert config.architectures == ["BertForSequenceClassification"]
    assert config.id2label == dict(enumerate(LABELS))
    assert config.label2id == {label: i for i, label in enumerate(LABELS)}
    assert config.num_hidden_layers == loaded.config.num_layers
    assert AutoTokenizer.from_pretrained(folder)("the cat dog")["input_ids"] == [5, 6, 1]


def test_an_altered_weight_fails_the_verdict(exported, tmp_path):
    folder, loaded, _ = exported
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["classifier.bias"] = tensors["classifier.bias"] + np.float32(3e-4)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    verdict = exports.check_parity(tmp_path, loaded.config, loaded.params, BATCH)
    assert not verdict.passed
    np.testing.assert_allclose(verdict.max_abs_difference_jax, 3e-4, rtol=1e-2)
    assert "FAILED" in str(verdict)


def test_a_missing_head_fails_the_verdict(exported, tmp_path):
    folder, loaded, _ = exported
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["bert.pooler.dense.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert not exports.check_parity(tmp_path, loaded.config, loaded.params, BATCH).passed


def test_export_raises_where_the_folder_computes_something_else(tmp_path, monkeypatch):
    def corrupted(folder, *args, **kwargs):
        again = load_pretrained(folder, *args, **kwargs)
        again.params["classifier"]["bias"] = again.params["classifier"]["bias"] + np.float32(1e-3)
        return again

    monkeypatch.setattr(exports, "load_pretrained", corrupted)
    with pytest.raises(exports.ParityError, match="parity FAILED"):
        run_export(tmp_path)


def test_a_difference_that_is_not_a_number_does_not_pass(exported, tmp_path):
    folder, loaded, _ = exported
    params = dict(loaded.params, classifier=dict(loaded.params["classifier"], bias=np.full(3, np.nan, np.float32)))
    assert not exports.check_parity(folder, loaded.config, params, BATCH).passed


def test_the_card_tells_results_limits_and_config(exported):
    folder, _, _ = exported
    card = (folder / "README.md").read_text()
    front = card.split("---")[1]
    assert "library_name: " in front
    assert "pipeline_tag: text-classification" in front
    for text in (
        "| dev accuracy | 0.9123 |",
        "a \\| b",
        "`roberta-base`",
        "At most 20 tokens",
        "<details>",
        "parity passed",
    ):
        assert text in card
    assert '"name": "codir"' in card
    assert "`2` good" in card


def test_the_front_matter_is_yaml_whatever_names_hold(tmp_path):
    """Read by another library than it was written with."""
    nasty = 'a "b": [c]\n---\nevil: 1 # \U0001f600 \u2028 \x7f'
    given = Provenance("apache-2.0", "en, de", "FacebookAI/roberta-base", nasty, ("accuracy",))
    run_export(tmp_path, provenance=given, results={"dev": {"accuracy": 0.5}, "test": {"accuracy": 0.75}})
    card = (tmp_path / "README.md").read_text()
    front = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert (front["license"], front["language"], front["base_model"]) == ("apache-2.0", ["en", "de"], given.base_model)
    (result,) = front["model-index"][0]["results"][:1]
    assert result["dataset"]["name"] == nasty and "evil" not in front
    told = {one["dataset"]["split"]: one["metrics"][0]["value"] for one in front["model-index"][0]["results"]}
    assert told == {"dev": 0.5, "test": 0.75} and "| test accuracy | 0.75 |" in card
    assert "## Intended use" in card and "No licence" not in card


def test_a_base_model_on_this_machine_is_told_by_name_and_not_linked(tmp_path):
    run_export(tmp_path / "out", provenance=Provenance(base_model=str(tmp_path / "runs" / "mine")))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model" not in card and "`mine`" in card and "No licence was named" in card


def test_the_card_of_a_model_of_pairs_gives_it_pairs(tmp_path):
    loaded, _ = run_export(tmp_path, labels=Labels(LABELS, is_pair=True))
    assert load_pretrained(tmp_path).labels.is_pair and loaded.labels.is_pair is None
    card = (tmp_path / "README.md").read_text()
    assert "to a pair of texts. " in card and '[("A text.", "Another one.")]' in card


def test_the_card_does_not_tell_a_path_of_the_machine(tmp_path):
    teacher = tmp_path / "runs" / "my-teacher"
    run_export(tmp_path / "out", teacher_name=str(teacher))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`my-teacher`" in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("FacebookAI/roberta-base", "FacebookAI/roberta-base"),
        ("roberta-base", "roberta-base"),
        ("", ""),
        ("runs/here", "here"),  # it lies here
        ("./runs/teacher", "teacher"),
        ("/home/somebody/teacher", "teacher"),
        ("~/teacher", "teacher"),
        ("a/b/teacher/", "teacher"),
    ],
)
def test_a_hub_name_is_told_whole_and_of_a_path_the_last_part(name, told, tmp_path, monkeypatch):
    (tmp_path / "runs" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert without_path(name) == told


def test_a_masked_lm_has_its_own_card(tmp_path):
    loaded = load_pretrained(GOLDEN / "roberta_mlm", head="masked_lm")
    batch = BATCH | {"token_type_ids": np.zeros((2, 5), np.int32)}
    exports.export(tmp_path, loaded.config, loaded.params, tokenizer(), head="masked_lm", sample_batch=batch)
    card = (tmp_path / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card and "AutoModelForMaskedLM" in card
    assert "This RoBERTa encoder of 2 layers, 12 hidden features and 3 heads fills in masked tokens" in card
    assert "codir_jax.load" not in card


def test_regression_is_exported_as_such(tmp_path):
    loaded = load_pretrained(GOLDEN / "roberta_seqcls", num_labels=1)
    batch = BATCH | {"token_type_ids": np.zeros((2, 5), np.int32)}
    exports.export(
        tmp_path, loaded.config, loaded.params, tokenizer(), labels=Labels(is_regression=True), sample_batch=batch
    )
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["problem_type"], config["model_type"]) == ("regression", "roberta")
    assert "regression score" in (tmp_path / "README.md").read_text()


def test_the_verdict_is_a_plain_record():
    verdict = exports.ParityVerdict(1e-6, None, True, 4)
    assert dataclasses.asdict(verdict)["max_abs_difference_torch"] is None
    assert "torch not compared" in str(verdict)


def test_what_stands_at_padding_is_not_compared(monkeypatch):
    """Of padding whose window is empty transformers' attentions do not agree among themselves."""
    source = GOLDEN / "modernbert_mlm"
    loaded = load_pretrained(source, head="masked_lm")
    io = np.load(source / "io.npz")
    batch = {name: io[name].astype(np.int32) for name in exports.INPUTS}
    monkeypatch.setattr(exports.importlib.util, "find_spec", lambda name: name)

    def verdict(moved):
        theirs = io["logits"] + moved[..., None].astype(np.float32)
        monkeypatch.setattr(exports.in_torch, "answers", lambda *_: [theirs])
        return exports.check_parity(source, loaded.config, loaded.params, batch, "masked_lm")

    assert verdict(batch["attention_mask"] == 0).passed
    assert not verdict(batch["attention_mask"] == 1).passed


def test_torch_computes_the_same_from_the_folder(exported):
    pytest.importorskip("torch")
    _, _, verdict = exported
    assert verdict.max_abs_difference_torch is not None
    assert verdict.max_abs_difference_torch <= 1e-5


def test_without_torch_the_verdict_says_so(exported):
    if importlib.util.find_spec("torch") is not None:
        pytest.skip("torch is installed")
    assert exported[2].max_abs_difference_torch is None
