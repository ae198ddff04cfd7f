"""The export of a workdir: what its card tells of the run."""

import errno
import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained
from codir_jax.jobs import export
from codir_jax.jobs.export import _provenance, export_model
from codir_jax.processes.user_error import CannotWriteError, UserError
from codir_jax.verbs import export as verb

GOLDEN = Path(__file__).parents[1] / "models" / "golden" / "bert_seqcls"


def test_the_card_tells_hub_names_whole_and_no_path_of_the_machine(tmp_path, monkeypatch, capsys):
    source = load_pretrained(GOLDEN)
    best = save_pretrained(tmp_path / "run" / "best", source.config, source.params)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(best)
    config = {
        "objective": {"name": "codir"},
        "teacher": {"path": "FacebookAI/roberta-base", "cache_dir": str(tmp_path / "secret" / "cache")},
        "student": {"path": str(tmp_path / "secret" / "student")},
        "tokenizer_path": "FacebookAI/roberta-large",
        "data": {"train_path": "secret/train.tsv"},
    }
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert "parity passed" in export_model(str(tmp_path / "run"), str(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "its teacher was `FacebookAI/roberta-base`" in card
    assert '"path": "FacebookAI/roberta-base"' in card and '"tokenizer_path": "FacebookAI/roberta-large"' in card
    assert ModelCard(card).data.base_model == "FacebookAI/roberta-base"
    assert '"path": "student"' in card and '"train_path": "train.tsv"' in card and "secret" not in card
    assert "# out" in card.splitlines()

    # An export replaces the one before it: no file of a format stays that is not asked for.
    export_model(str(tmp_path / "run"), str(tmp_path / "out"), ["stablehlo"])
    program = tmp_path / "out" / "stablehlo" / "model.bin"
    assert program.exists()
    export_model(str(tmp_path / "run"), str(tmp_path / "out"))
    assert not program.exists() and (tmp_path / "out" / "README.md").read_text() == card

    # One that computes something else is left out, and the command says so.
    apply = export.export.apply
    with monkeypatch.context() as wrong:
        wrong.setattr(export.export, "apply", lambda *arguments: apply(*arguments) + 1)
        flags = {"model": str(tmp_path / "run"), "output": str(tmp_path / "out"), "push_to_hub": ""}
        assert verb.run((), format=("stablehlo",), **flags) == 1
        assert "stablehlo parity FAILED, left out: " in capsys.readouterr().out
    assert not program.exists() and (tmp_path / "out" / "README.md").read_text() == card

    # Another export to the same folder for which there is no room leaves the first one as it is.
    def contents():
        return {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = contents()
    monkeypatch.setattr(export.contract, "write", no_room)
    with pytest.raises(CannotWriteError, match="out cannot be written"):
        export_model(str(tmp_path / "run"), str(tmp_path / "out"), license="mit")
    assert contents() == before


def test_licence_and_language_are_those_of_the_base_model_where_none_are_given(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\nlanguage: [en, de]\n---\n# base\n")
    config = {"teacher": {"path": str(tmp_path)}, "data": {"train_path": "secret/my.tsv"}}
    results = {"metrics": [{"name": "accuracy"}]}
    found = _provenance(config, results, "", "", "", "")
    assert found == (("mit", "en,de", str(tmp_path), "my.tsv", ("accuracy",)))
    assert _provenance(config, results, "gpl-3.0", "fr", "", "other")[:4] == ("gpl-3.0", "fr", str(tmp_path), "other")
    (tmp_path / "README.md").write_text("---\n: [\n---\n")  # no YAML: no card
    assert _provenance(config, {}, "", "", "", "")[:2] == ("", "")


def test_an_export_is_uploaded_private_and_a_refusal_says_what_to_do(tmp_path, monkeypatch):
    calls = []

    class Api:
        def create_repo(self, name, **how):
            if name == "nobody/model":
                raise huggingface_hub.errors.LocalTokenNotFoundError("no token")
            calls.append((name, how))
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{name}")

        def upload_folder(self, **what):
            calls.append(what)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert export.push(str(tmp_path), "me/small") == "https://huggingface.co/me/small"
    assert calls[0] == ("me/small", {"private": True, "exist_ok": True})
    assert calls[1]["repo_id"] == "me/small" and calls[1]["folder_path"] == str(tmp_path)
    with pytest.raises(UserError, match=r"nobody/model: the hub refuses it .*no token.*hf auth login"):
        export.push(str(tmp_path), "nobody/model")
