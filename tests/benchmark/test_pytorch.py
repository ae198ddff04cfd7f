"""The comparison with PyTorch: turns and ratios by hand; what needs torch is skipped where it is not installed."""

import sys

import numpy as np
import pytest

from codir_jax.benchmark import bench, pytorch, pytorch_sentence_encoder, pytorch_step, table, turns
from codir_jax.benchmark import subject as subject_lib
from codir_jax.benchmark.bench import Request
from codir_jax.benchmark.pytorch_step import Corner
from codir_jax.evaluation.turns import in_turns
from codir_jax.processes.user_error import UserError

CONFIG = "configs/codir/finetune_distill.py:demo"
SMALL = (("data.demo_num_train", "64"), ("data.demo_num_dev", "8"), ("data.num_length_buckets", "1"))


def _subject(*overrides):
    config = subject_lib.load_config(CONFIG, (*SMALL, *overrides), batch_size=16)
    return subject_lib.make(config, model="tiny", epochs=2)


def test_every_turn_runs_every_arm_and_starts_with_another():
    order = []
    arms = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = in_turns(arms, 4)
    assert "".join(order) == "abcbcacababc"
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 4)


def test_a_ratio_is_of_the_two_values_of_one_turn():
    assert turns.spread([2.0, 6.0, 8.0], [1.0, 2.0, 8.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_there_are_eight_corners_of_two_dtypes_two_orders_and_two_teachers():
    assert len({corner.name for corner in pytorch.CORNERS}) == 8
    assert Corner(grouped=True, bfloat16=False, cached=False).name == "live, grouped, float32"


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="pip install torch"):
        pytorch_step.import_torch()


def test_the_table_shows_the_ratio_over_each_corner():
    section = {
        "rates": {"codir, cached": [30.0, 20.0], "PyTorch, live, grouped, float32": [10.0, 10.0]},
        "ratios": {"codir, cached": {"PyTorch, live, grouped, float32": turns.spread([30.0, 20.0], [10.0, 10.0])}},
        "num_turns": 2,
    }
    lines = table._pytorch_training(section)
    assert lines[-1].split()[-5:] == ["10.0", "2.50", "(2.00", "to", "3.00)"]


def test_a_section_with_models_of_its_own_stands_alone_and_needs_triplets():
    with pytest.raises(UserError, match="give it alone"):
        Request(("inference", "pytorch_sentence_encoder"))
    request = Request(("pytorch_sentence_encoder",), "configs/pair_supcon/train.py:demo,joint")
    with pytest.raises(UserError, match="trains on triplets"):
        bench.run(request, started=0.0)


def test_the_table_of_a_sentence_encoder_has_both_rates_and_their_ratios():
    seconds = {"codir": [9.0, 1.0, 2.0], "sentence-transformers": [9.0, 2.0, 6.0]}
    counts = dict.fromkeys(seconds, 60)
    section = {
        "training": pytorch_sentence_encoder._told(seconds, counts, "triplets_per_second"),
        "encoding": pytorch_sentence_encoder._told(seconds, counts, "texts_per_second"),
        "largest_difference": 1e-7,
        "num_turns": 2,
    }
    told = table.render({"sections": {"pytorch_sentence_encoder": section}, "devices": "1 x cpu"}).splitlines()
    assert told[2].split() == ["codir", "45.0", "45.0"] and told[3].split() == ["sentence-transformers", "20.0", "20.0"]
    assert told[4].count("2.50 (2.00 to 3.00)") == 2


@pytest.mark.slow
def test_a_sentence_encoder_trains_beside_the_library_from_the_same_vectors():
    for name in ("torch", "sentence_transformers", "accelerate", "datasets"):
        pytest.importorskip(name)
    small = (("data.demo_num_triplets", "64"), ("data.demo_num_scored", "8"), ("student.num_layers", "1"))
    request = Request(("pytorch_sentence_encoder",), "", (*small, ("student.hidden_size", "48")), epochs=2)
    found = bench.run(request, started=0.0)["sections"]["pytorch_sentence_encoder"]
    assert found["largest_difference"] < 1e-5 and found["training"]["ratio"]["median"] > 0


def test_a_method_that_is_not_written_in_pytorch_is_refused():
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="pooling"):
        pytorch_step.Training(_subject(("objective.pooling", "first")), pytorch.CORNERS[0])


def test_grouped_batches_hold_each_text_once_and_pad_less():
    pytest.importorskip("torch")
    subject, padded = _subject(), {}
    lengths = subject.stage.feed.data.splits["train"].lengths
    for grouped in (True, False):
        batches = pytorch_step.Training(subject, Corner(grouped, False, False)).batches()
        assert sorted(np.concatenate(batches)) == list(range(64))
        padded[grouped] = sum(len(rows) * lengths[rows].max() for rows in batches)
    assert padded[True] < padded[False]


@pytest.mark.slow
def test_all_arms_train_and_answer():
    pytest.importorskip("torch")
    request = Request(("pytorch_training",), CONFIG, SMALL, "tiny", epochs=2, batch_size=16)
    found = bench.run(request, started=0.0)
    section = found["sections"]["pytorch_training"]
    assert len(section["rates"]) == 10 and section["ratios"]["codir, cached"]["PyTorch, best live"]["median"] > 0
    assert "PyTorch, best cached" in table.render(found)
