"""The recipe that distils a sentence encoder, on own texts: what it trains, exports and leaves as it was."""

import dataclasses
import gzip
import json

import pytest

from codir_jax import load
from codir_jax.convert import sentence_folder
from codir_jax.jobs.compress import compress
from codir_jax.jobs.train import train
from codir_jax.processes.user_error import UserError

SMALL = [("data.demo_num_triplets", "64"), ("data.demo_num_scored", "16"), ("train.total_steps", "2")]
QUICK = [
    ("train.total_steps", "6"),  # more than an epoch, so that the teacher's outputs are kept
    ("train.log_every_steps", "1"),
    ("data.batch_size", "8"),
    ("data.max_length", "16"),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of an encoder of two layers whose vectors are served with norm 1."""
    folder = tmp_path_factory.mktemp("teacher")
    train("configs/pair_supcon/train.py:tiny", folder, [*SMALL, ("student.num_layers", "2")])
    facts = dataclasses.replace(sentence_folder.read(folder / "best"), normalize=True, max_length=20)
    sentence_folder.write(folder / "best", facts, 32)
    return str(folder / "best")


@pytest.mark.slow
def test_own_texts_make_an_encoder_of_half_the_layers(teacher, tmp_path):
    texts = tmp_path / "texts.txt.gz"
    texts.write_bytes(gzip.compress("".join(f"the king saw {i} maps\n" for i in range(40)).encode()))
    dev = tmp_path / "sts.tsv"
    dev.write_text(
        "sentence1\tsentence2\tscore\n" + "".join(f"the king\tthe boy {i}\t{i}\n" for i in range(8)), encoding="utf-8"
    )
    found = compress(
        teacher,
        str(texts),
        str(dev),
        recipe="distill_encoder",
        compare=["both", "codir"],
        output=str(tmp_path / "job"),
        overrides=[*QUICK, ("teacher.allow_weak", "true")],
    )
    assert {name: row["num_layers"] for name, row in found["models"].items()} == {
        "given_teacher": 2,
        "vectors": 1,
        "codir": 1,
        "both": 1,
    }
    assert all("spearman" in row["dev"] and row["latency"] for row in found["models"].values())
    assert len(list((tmp_path / "job" / "teacher_cache").iterdir())) == 1  # all students share one pass
    exported = sentence_folder.read(tmp_path / "job" / "export")
    assert exported.normalize and exported.max_length == 20
    vectors = load(found["export"]).encode(["the king", "the boy"])
    assert vectors.shape == (2, 32) and abs((vectors**2).sum(1) - 1).max() < 1e-5
    lines = [json.loads(line) for line in (tmp_path / "job" / "both" / "metrics.jsonl").read_text().splitlines()]
    assert {"vector_loss", "similarity_loss", "num_keys"} <= set(lines[0])


def test_pairs_and_a_student_of_another_width_are_refused_before_training(teacher, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\nthree\nfour\n" * 4, encoding="utf-8")
    shared = {"recipe": "distill_encoder", "output": str(tmp_path / "job")}
    with pytest.raises(UserError, match=r"32 numbers|16 numbers, the teacher's 32"):
        changes = [("student.init", "random"), ("student.hidden_size", "16"), ("student.num_heads", "2")]
        compress(teacher, str(texts), overrides=[*QUICK, *changes], **shared)
    with pytest.raises(UserError, match="single sentences"):
        compress(teacher, str(texts), overrides=[*QUICK, ("data.layout", "pairs")], **shared)
    assert not (tmp_path / "job").exists()
