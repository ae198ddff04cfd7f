"""Other words in copies of texts: where they stand, which they are, what they depend on; any kind of vocabulary."""

import json

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from codir_jax.convert import save
from codir_jax.data.tokenizer import save_tokenizer
from codir_jax.main import main
from codir_jax.models.heads import build_model, init_params
from codir_jax.predict import word_replacer
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox
from tests.objectives import tiny

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PLAIN = ["the", "cat", "sat", "dog", "ran", "far", "##s", "a", ",", "2"]
NAMES = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))


def wordpiece():
    core = Tokenizer(models.WordPiece({w: i for i, w in enumerate(SPECIAL + PLAIN)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    return core


def marked():
    """SentencePiece's way: a word begins with a mark."""
    words = [*SPECIAL, *(f"▁{word}" for word in PLAIN[:6]), "s", "cat", "▁"]
    core = Tokenizer(models.Unigram([(word, -1.0 - 0.1 * i) for i, word in enumerate(words)], unk_id=1))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return core


@pytest.fixture(scope="module", params=[wordpiece, marked], ids=["WordPiece", "SentencePiece"])
def folder(request, tmp_path_factory):
    core = request.param()
    core.normalizer = normalizers.Lowercase()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    words = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=16, **NAMES)
    config = tiny.sizes(1).__class__(**{**vars(tiny.sizes(1)), "vocab_size": core.get_vocab_size()})
    module = build_model(config, "masked_lm")
    path = tmp_path_factory.mktemp(request.param.__name__)
    params = jax.device_get(unbox(init_params(module, jax.random.key(0))))
    save.save_pretrained(path, config, params, head="masked_lm")
    save_tokenizer(words, path)
    return path


TEXTS = [("The cat sat",), ("cats, 2 a",), ("",), ("the dog ran far",), ("SAT",)]


def seeds(rows, seed=0):
    return [(seed, i) for i in range(len(rows))]


def test_every_word_is_replaced_by_another_one_and_nothing_else(folder):
    replacer = word_replacer.load(str(folder), share=1.0, top=3)
    copies = replacer.copy(TEXTS, seeds(TEXTS))
    assert copies[1] == TEXTS[1] and copies[2] == TEXTS[2]  # a word of two tokens, a mark, a number, a letter; nothing
    for text, copy in ((TEXTS[i][0], copies[i][0]) for i in (0, 3, 4)):
        assert len(copy.split()) == len(text.split())
        for old, new in zip(text.split(), copy.split(), strict=True):
            assert new.lower() != old.lower() and new.lower() in PLAIN[:6]
            assert new.isupper() == old.isupper() and new[0].isupper() == old[0].isupper()


def test_what_is_drawn_depends_on_the_seed_alone(folder):
    one, many = (word_replacer.load(str(folder), share=0.5, top=5, batch_size=size) for size in (1, 8))
    rows = [*TEXTS, ("the far cat ran, the far dog sat",)]
    expected = many.copy(rows, seeds(rows))
    assert expected == many.copy(rows, seeds(rows))
    assert expected == [one.copy([row], [(0, i)])[0] for i, row in enumerate(rows)]
    assert expected != many.copy(rows, seeds(rows, 1))


def test_words_are_the_likeliest_of_the_model_at_their_place(folder):
    replacer = word_replacer.load(str(folder), share=1.0, top=1)
    ((copy,),) = replacer.copy([("dog",)], [(0,)])
    ids = replacer.tokenizer("dog")["input_ids"]
    inputs = np.array([[i if n != 1 else replacer.tokenizer.mask_token_id for n, i in enumerate(ids)]], np.int32)
    module = build_model(replacer.source.config, "masked_lm")
    logits = module.apply({"params": replacer.source.params}, inputs, np.ones_like(inputs), inputs * 0).logits[0, 1]
    words = {word: int(replacer.tokenizer(word)["input_ids"][1]) for word in PLAIN[:6] if word != "dog"}
    assert copy == max(words, key=lambda word: logits[words[word]])


def test_both_texts_of_a_pair_get_other_words(folder):
    replacer = word_replacer.load(str(folder), share=1.0, top=3)
    ((first, second),) = replacer.copy([("the cat", "dog ran")], [(0,)])
    assert {*first.split(), *second.split()} <= set(PLAIN[:6])
    assert first.split()[0] != "the" and second.split()[1] != "ran"


def test_the_share_is_that_of_the_words(folder):
    replacer = word_replacer.load(str(folder), share=0.3, top=5)
    rows = [("the cat sat far",)] * 400
    changed = [
        sum(a != b for a, b in zip(row[0].split(), copy[0].split(), strict=True))
        for row, copy in zip(rows, replacer.copy(rows, seeds(rows)), strict=True)
    ]
    assert min(changed) == 1  # one at least
    assert np.mean(changed) == pytest.approx(4 * 0.3 + 0.7**4, rel=0.1)


def test_a_vocabulary_of_fewer_words_than_are_drawn_among_is_refused(folder):
    with pytest.raises(UserError, match="the vocabulary has 6 whole words; top=6 must be below that"):
        word_replacer.load(str(folder), top=6).copy(TEXTS, seeds(TEXTS))


def test_the_verb_writes_unlabelled_texts(folder, tmp_path, capsys):
    table = tmp_path / "train.tsv"
    table.write_text("review\tlabel\nthe cat sat\tyes\n2\tno\nthe dog ran far\tyes\n", encoding="utf-8")
    flags = [f"--model={folder}", f"--input={table}", "--text_column=review", "--top=5"]
    outputs = {copies: tmp_path / f"{copies}.jsonl" for copies in (2, 3)}
    for copies, output in outputs.items():
        assert main(["augment", *flags, f"--copies={copies}", f"--output={output}"]) == 0
    lines = {copies: output.read_text(encoding="utf-8").splitlines() for copies, output in outputs.items()}
    rows = {copies: [json.loads(line)["review"] for line in own] for copies, own in lines.items()}
    assert "copies of 3 texts; " in capsys.readouterr().out  # "2" has no word
    assert "2" not in rows[3] and len(set(rows[3])) == len(rows[3]) >= 4
    assert set(rows[2]) <= set(rows[3])  # more copies go on where fewer end
    output = tmp_path / "more.txt"
    assert main(["augment", *flags, f"--output={output}"]) == 0
    assert set(output.read_text(encoding="utf-8").splitlines()) >= set(rows[3])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--output=more.tsv"], "ends in .jsonl or .txt"),
        (["--output=more.txt", "--text_pair_column=b"], "pairs of texts need columns"),
        (["--output=more.jsonl", "--copies=0"], "--copies=0: expected 1 to 1,000"),
        (["--output=more.jsonl", "--share=1.5"], "--share=1.5: expected above 0, at most 1"),
        (["--output=more.jsonl", "--share=nan"], "--share=nan"),
        (["--output=more.jsonl", "--top=0"], "--top=0"),
        (["--output=more.jsonl", "--seed=-1"], "--seed=-1"),
        (["--output=more.jsonl", "--text_column=text"], "no column 'text'"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_written(flags, told, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.tsv").write_text("sentence\nthe cat sat\n", encoding="utf-8")
    assert main(["augment", f"--model={folder}", "--input=train.tsv", "--top=5", *flags]) == 2
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.tsv"]
