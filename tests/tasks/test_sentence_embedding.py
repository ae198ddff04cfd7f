"""A sentence encoder as a user trains it: it learns, resumes bit for bit, is saved without its heads, and refusals."""

import json

import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.convert import pretrained
from codir_jax.data.on_disk import sources
from codir_jax.data.on_disk.examples import StoredExamples
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.stage import run
from codir_jax.stage.evaluate import evaluate
from codir_jax.tasks import sentence_embedding
from codir_jax.training import loop
from tests.stage.test_run import _assert_same_end, _stop_after

CONFIG = "configs/pair_supcon/train.py:tiny"
SMALL = [("data.demo_num_triplets", "64"), ("train.total_steps", "6"), ("train.checkpoint_every_steps", "3")]


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["joint", "twins"])
def test_a_run_stopped_and_resumed_ends_bit_equal(tmp_path, monkeypatch, arm):
    config = config_lib.load(f"{CONFIG},{arm}", SMALL)
    run.run(config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        _stop_after(patch, 2)
        with pytest.raises(loop.Interrupted, match="SIGINT after step"):
            run.run(config, tmp_path / "stopped")
    run.run(config, tmp_path / "stopped")
    _assert_same_end(tmp_path / "straight", tmp_path / "stopped")


def test_a_run_is_judged_by_scored_pairs_and_leaves_the_encoder_without_its_heads(tmp_path, capsys):
    config = config_lib.load(CONFIG, SMALL)
    results = run.run(config, tmp_path)
    saved = pretrained.load_pretrained(tmp_path / "best", head="embedding")
    assert set(saved.params) == {"encoder"} and saved.sentence.pooling == "mean"
    assert results["primary_metric"] == "spearman" and results["texts_per_row"] == 2
    assert evaluate(config, str(tmp_path))["spearman"] == pytest.approx(results["dev"]["spearman"])
    told = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any("num_masked" in line for line in told)
    assert "train rows are pairs (64 entailed, 64 contradicted)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["joint", "instance", "orig", "ranking", "twins"])
def test_the_demo_learns(tmp_path, arm):
    """From words in common to what is said: far above an encoder that was trained for nothing."""
    overrides = [("student.hidden_size", "64"), ("data.demo_num_triplets", "2000"), ("data.batch_size", "64")]
    config = config_lib.load(f"configs/pair_supcon/train.py:demo,{arm}", overrides)
    run.run(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    untrained = config.copy_and_resolve_references()
    untrained.optimizer.learning_rate = 1e-12
    untrained.train.update({"total_epochs": -1.0, "total_steps": 1})
    start = run.run(untrained, tmp_path / "untrained")["dev"]["spearman"]
    best = max(line["dev_spearman"] for line in lines if "dev_spearman" in line)
    assert best > start + (0.02 if arm == "twins" else 0.1), (start, best)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("data.batch_size", "1", "a batch needs at least 2 rows"),
        ("data.name", "cola", "is for the task 'classification'"),
        ("student.pooling", "max", "one of '', mean, cls, pooler"),
        ("objective.instance", "none", "one of orig, hard_negative, ranking"),
        ("data.layout", "triplets", "train rows are triplets"),
    ],
)
def test_what_cannot_be_is_refused_before_training(tmp_path, key, value, told):
    with pytest.raises(UserError, match=told):
        run.run(config_lib.load(CONFIG, [*SMALL, (key, value)]), tmp_path)


def test_every_arm_has_the_rows_and_the_rates_that_it_needs():
    joint, ranking = (config_lib.load(f"configs/pair_supcon/train.py:own,{arm}") for arm in ("joint", "ranking"))
    assert joint.optimizer.rules == ("student/.*: rate=1", "(?!student/).*: rate=100") and joint.data.layout == "pairs"
    assert np.isclose(joint.optimizer.learning_rate, 5e-6) and joint.data.batch_size == 1024
    assert not ranking.optimizer.rules and ranking.data.layout == "triplets"
    assert not config_lib.load("configs/pair_supcon/train.py:own,released").objective.mask_same_text


def test_sentences_of_a_large_file_are_read_from_disk_and_pairs_of_texts_in_memory(tmp_path, monkeypatch):
    texts = tmp_path / "more.txt"
    texts.write_text("".join(f"the cat sees {i} dogs\n" for i in range(700)))
    table = tmp_path / "more.tsv"
    table.write_text("a\tb\n" + "".join(f"the cat {i}\ta dog {i}\n" for i in range(9)))

    def made(least, layout, **data):
        monkeypatch.setattr(sources, "LEAST_BYTES", least)
        config = config_lib.load("configs/distill_encoder/train.py:demo,tiny", [("data.layout", layout)])
        config.data.update({"cache_dir": str(tmp_path / "rows"), **data})
        tokenizer = sentence_embedding.fresh_tokenizer(config)
        return sentence_embedding.make(config, tokenizer)

    held, stored = (made(least, "sentences", unlabelled_path=str(texts)) for least in (1 << 25, 1))
    assert isinstance(stored.data.splits["train"], StoredExamples) and stored.describe() == held.describe()
    sharding = rules.batch_sharding(make_mesh({"data": -1, "fsdp": 1, "model": 1}))
    for one, other in zip(*(list(task.feed(sharding).train_on_host(0, 4, {})) for task in (held, stored)), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    pairs = made(1, "pairs", unlabelled_path=str(table), text_column="a", text_pair_column="b")
    assert pairs.data.splits["train"].text_ids.shape[1] == pairs.rows.texts_per_row == 2
