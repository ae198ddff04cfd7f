"""`codir evaluate` of a sentence encoder: files in, tables and JSON out."""

import json
from pathlib import Path

import numpy as np
import pytest

from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained
from codir_jax.jobs.evaluate import evaluate
from codir_jax.main import main
from codir_jax.processes.user_error import UserError
from tests.words import tokenizer

GOLDEN = Path(__file__).parents[1] / "models" / "golden" / "bert_seqcls"
PAIRS = [("the cat", "the cat", 5.0), ("the cat", "the cat sat", 4.5), ("the", "cat sat", 1.0), ("sat", "the", 0.0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    source = load_pretrained(GOLDEN, head="embedding")
    save_pretrained(folder, source.config, source.params, head="embedding")
    tokenizer().save_pretrained(folder)
    rows = "".join(f"{score}\t{first}\t{second}\n" for first, second, score in PAIRS)
    (folder / "s.tsv").write_text(f"score\tsentence1\tsentence2\n{rows}")
    texts = [("x", "cat sat"), ("y", "the"), ("x", "cat cat sat"), ("y", "the the"), ("y", "the the the")]
    (folder / "c.tsv").write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in texts))
    return folder


def test_tables_are_printed_and_the_numbers_written(folder, tmp_path, capsys):
    output = tmp_path / "scores.json"
    flags = [f"--sts={folder / 's.tsv'}", f"--clustering={folder / 'c.tsv'}", "--cluster_seeds=2"]
    assert main(["evaluate", f"--model={folder}", *flags, f"--output={output}"]) == 0
    told, scores = capsys.readouterr().out, json.loads(output.read_text())
    assert scores["sts"]["s"]["pairs"] == 4 and scores["sts_mean"]["spearman"] == scores["sts"]["s"]["spearman"]
    assert scores["sts"]["s"]["tf_idf"] == pytest.approx(100, abs=6)  # the two without a common word are a tie
    assert scores["clustering"]["c"]["classes"] == 2 and scores["clustering"]["c"]["tf_idf"]["accuracy"] == 100
    assert f"| s | 4 | {scores['sts']['s']['spearman']:.1f} |" in told and "| c | 5 | 2 |" in told
    assert scores["notes"] == []


def test_a_linear_classifier_of_the_vectors_answers_rows_that_it_was_not_fitted_on(folder, tmp_path, capsys):
    """Five texts of each class that the words tell apart, and labels that nothing tells."""
    texts = [
        "the cat",
        "the cat the",
        "cat the cat",
        "the the cat",
        "cat cat",
        "sat",
        "sat sat",
        "a sat",
        "sat a",
        "sat b",
    ]
    told = "".join(f"{text}\t{'x' if i < 5 else 'y'}\n" for i, text in enumerate(texts))
    (tmp_path / "told.tsv").write_text(f"text\tlabel\n{told}")
    untold = "".join(f"the cat\t{'xy'[i % 2]}\n" for i in range(10))
    (tmp_path / "untold.tsv").write_text(f"text\tlabel\n{untold}")
    output = tmp_path / "scores.json"
    flags = [f"--classification={tmp_path / 'told.tsv'},{tmp_path / 'untold.tsv'}", f"--output={output}"]
    assert main(["evaluate", f"--model={folder}", *flags]) == 0
    found = json.loads(output.read_text())["classification"]
    assert found["told"]["texts"] == 10 and found["told"]["classes"] == 2
    assert found["told"]["tf_idf"] == {"accuracy": 100, "matthews_correlation": 100}
    assert found["untold"]["accuracy"] <= 50 and found["untold"]["tf_idf"]["accuracy"] <= 50
    own = found["told"]
    row = f"| told | 10 | 2 | {own['accuracy']:.1f} | {own['matthews_correlation']:.1f} | 100.0 | 100.0 |"
    assert row in capsys.readouterr().out


def test_a_class_with_too_few_texts_to_hold_out_is_refused(tmp_path):
    (tmp_path / "few.tsv").write_text("text\tlabel\n" + "a\tx\n" * 6 + "b\ty\n" * 4)
    with pytest.raises(UserError, match=r"few: label 'y' has 4 of 10 texts; --classification needs at least 5 of each"):
        evaluate("no-such-model", classification=str(tmp_path / "few.tsv"))


def test_the_scores_are_those_of_the_vectors(folder):
    import codir_jax

    encode = codir_jax.load(str(folder)).encode
    a, b = encode([row[0] for row in PAIRS]), encode([row[1] for row in PAIRS])
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    ranks = np.argsort(np.argsort(cosine)), np.argsort(np.argsort([row[2] for row in PAIRS]))
    by_hand = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (4 * 15)
    assert evaluate(str(folder), sts=str(folder / "s.tsv"))["sts"]["s"]["spearman"] == pytest.approx(100 * by_hand)


def test_what_is_undefined_has_a_note(folder, tmp_path):
    (tmp_path / "low.tsv").write_text("".join(f"{score / 5}\t{a}\t{b}\n" for a, b, score in PAIRS))
    scores = evaluate(str(folder), sts=str(tmp_path / "low.tsv"))
    assert scores["sts"]["low"]["alignment"] is None
    assert scores["notes"] == ["low: alignment is of pairs with a score above 4 of 5, and there are none"]


def test_a_split_is_not_of_files(folder):
    with pytest.raises(UserError, match="--split=nope is not of --input, --sts, --clustering and --classification"):
        evaluate(str(folder), split="nope", sts=str(folder / "s.tsv"))


def test_a_collapsed_encoder_is_told_in_a_sentence(folder, tmp_path, capsys):
    source = load_pretrained(folder, head="embedding")
    norm = source.params["encoder"][f"layer_{source.config.num_layers - 1}"]["mlp_norm"]
    norm["scale"] = np.zeros_like(norm["scale"])
    save_pretrained(tmp_path, source.config, source.params, head="embedding")
    tokenizer().save_pretrained(tmp_path)
    assert main(["evaluate", f"--model={tmp_path}", f"--sts={folder / 's.tsv'}"]) == 0
    told = capsys.readouterr().out
    assert "| s | 4 | undefined |" in told and "note: s: the cosines of all pairs are the same" in told


def test_glue_is_found_by_name(folder, tmp_path):
    glue = tmp_path / "glue" / "STS-B"
    glue.mkdir(parents=True)
    head = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
    for split in ("train", "dev", "test"):
        rows = [f"{i}\tg\tf\ty\t{i}\ts\ts\t{a}\t{b}" for i, (a, b, _) in enumerate(PAIRS)]
        is_test = split == "test"
        lines = [head if is_test else f"{head}\tscore"]
        lines += [row if is_test else f"{row}\t{pair[2]}" for row, pair in zip(rows, PAIRS, strict=True)]
        (glue / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    where = [("data.glue_dir", str(tmp_path / "glue")), ("data.tfds_data_dir", str(tmp_path / "tfds"))]
    scores = evaluate(str(folder), sts="stsb", overrides=where)
    assert scores["sts"]["stsb"]["pairs"] == 4


def test_bad_calls_are_refused_before_the_model_is_read(tmp_path):
    with pytest.raises(UserError, match="--config names data of its own"):
        evaluate("no-such-model", "c.py", sts="x.tsv")
    with pytest.raises(UserError, match=r"--classification names x.tsv twice"):
        evaluate("no-such-model", classification="x.tsv,x.tsv")
    with pytest.raises(UserError, match="at least one seed"):
        evaluate("no-such-model", sts="x.tsv", cluster_seeds=0)
    with pytest.raises(UserError, match=r"--sts x.tsv: no such file"):
        evaluate("no-such-model", sts="x.tsv")
