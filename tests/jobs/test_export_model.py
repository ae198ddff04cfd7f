"""The export of a workdir: what its card tells of the run."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from codir_jax.convert.huggingface import load_pretrained, save_pretrained
from codir_jax.jobs.export import export_model

GOLDEN = Path(__file__).parents[1] / "models" / "golden" / "bert_seqcls"


def test_the_card_tells_hub_names_whole_and_no_path_of_the_machine(tmp_path):
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
    assert '"path": "student"' in card and '"train_path": "train.tsv"' in card and "secret" not in card
