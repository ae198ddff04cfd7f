"""A stage on a corpus as a user runs it: train, resume bit for bit, judge, fine-tune, export, refusals."""

import json

import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.convert import pretrained, save
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data import tokenizer_training
from codir_jax.data.corpus import corpus as corpus_lib
from codir_jax.data.corpus import demo_text
from codir_jax.jobs import export as exporter
from codir_jax.jobs.compress import compress
from codir_jax.stage import run
from codir_jax.stage.evaluate import evaluate
from codir_jax.training import loop
from tests import commands
from tests.stage.test_run import _assert_same_end, _stop_after

TEACHER = "configs/codir/pretrain_teacher.py:tiny"
STUDENT = "configs/codir/pretrain_distill.py:tiny"
SMALL = [
    ("data.sources", "demo:24"),
    ("data.max_length", "16"),
    ("data.batch_size", "32"),
    ("train.total_steps", "8"),
    ("train.log_every_steps", "4"),
    ("train.eval_every_steps", "8"),
    ("train.checkpoint_every_steps", "4"),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlm_teacher")
    run.run(config_lib.load(TEACHER, SMALL), folder)
    return folder


def _config(teacher, *overrides, method="codir"):
    return config_lib.load(f"{STUDENT},{method}", [*SMALL, ("teacher.path", str(teacher)), *overrides])


@pytest.fixture(scope="module")
def student(teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlm_student")
    run.run(_config(teacher), folder)
    return folder


def test_a_run_stopped_in_an_epoch_and_resumed_ends_bit_equal_with_its_masks_and_queue(
    teacher, student, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        _stop_after(patch, 3)
        with pytest.raises(loop.Interrupted, match="SIGINT after step"):
            run.run(_config(teacher), tmp_path)
    run.run(_config(teacher), tmp_path)
    _assert_same_end(student, tmp_path)


def test_the_results_tell_held_out_loss_distance_to_the_teacher_and_retrieval(student):
    results = json.loads((student / "results.json").read_text())
    assert results["primary_metric"] == "masked_lm_loss"
    assert {"masked_accuracy", "teacher_kl", "teacher_agreement", "retrieval_rate"} <= results["dev"].keys()
    assert results["teacher_dev"].keys() == {"masked_lm_loss", "masked_accuracy"}
    assert results["corpus"]["num_chunks"] == results["num_examples"]


def test_a_finished_model_is_judged_again_alike(student):
    config = config_lib.load(str(student / "config.json"))
    scores = evaluate(config, str(student), "dev")
    told = json.loads((student / "results.json").read_text())["dev"]
    for name in ("masked_lm_loss", "teacher_kl", "retrieval_rate_unprojected"):
        assert scores[name] == pytest.approx(told[name], rel=1e-5)
    with pytest.raises(ValueError, match="held-out documents"):
        evaluate(config, str(student), "train")


def test_the_export_is_a_masked_language_model_equal_to_what_was_trained(student, tmp_path):
    assert "parity passed" in exporter.export_model(str(student), str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"]
    again = pretrained.load_pretrained(tmp_path, head="masked_lm")
    assert again.has_head
    assert again.fingerprint == pretrained.load_pretrained(student / "best", head="masked_lm").fingerprint
    assert "AutoModelForMaskedLM" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_a_roberta_of_a_byte_level_vocabulary_goes_the_same_way(tmp_path):
    tokenizer = tokenizer_training.train_byte_level_bpe(demo_text.documents(24), 400)
    tokenizer_lib.save_tokenizer(tokenizer, tmp_path / "tokenizer")
    own = [("tokenizer_path", str(tmp_path / "tokenizer")), ("student.family", "roberta")]
    run.run(config_lib.load(TEACHER, [*SMALL, *own]), tmp_path / "teacher")
    run.run(_config(tmp_path / "teacher"), tmp_path / "student")
    assert "parity passed" in exporter.export_model(str(tmp_path / "student"), str(tmp_path / "export"))
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert config["architectures"] == ["RobertaForMaskedLM"] and config["num_hidden_layers"] == 1
    assert config["pad_token_id"] == tokenizer.pad_token_id == 1
    scores = json.loads((tmp_path / "student" / "results.json").read_text())["dev"]
    assert scores["teacher_agreement"] > scores["masked_accuracy"]  # its own teacher is what it is nearest to


def test_the_fine_tuning_stage_takes_the_workdir(student, tmp_path):
    small = [("data.demo_num_train", "64"), ("data.demo_num_dev", "32"), ("train.total_steps", "2")]
    path = [("student.init", "pretrained"), ("student.path", str(student)), ("student.num_layers", "0")]
    run.run(config_lib.load("configs/codir/finetune_teacher.py:tiny", [*small, *path]), tmp_path)
    trained, start = pretrained.load_pretrained(tmp_path / "best"), pretrained.load_pretrained(student / "best")
    moved = (
        trained.params["encoder"]["layer_0"]["mlp_in"]["kernel"]
        - start.params["encoder"]["layer_0"]["mlp_in"]["kernel"]
    )
    assert 0 < np.abs(moved).max() < 0.05  # started from there, not anew


def _classifier(teacher, folder):
    """The teacher with a classifier in the place of its masked-LM head."""
    source = pretrained.load_pretrained(teacher / "best", head="masked_lm")
    params = {"encoder": source.params["encoder"], "pooler": source.params["transform"]}
    params["classifier"] = {"kernel": np.zeros((32, 2)), "bias": np.zeros(2)}
    save.save_pretrained(folder, source.config, params)
    tokenizer_lib.save_tokenizer(tokenizer_lib.load_tokenizer(teacher / "best"), folder)
    return folder


def test_a_teacher_without_a_masked_lm_head_or_that_knows_nothing_is_refused(teacher, tmp_path):
    classifier = _classifier(teacher, tmp_path / "classifier")
    with pytest.raises(ValueError, match=r"no masked-LM head; train it first.*pretrain_teacher"):
        run.run(_config(classifier), tmp_path / "a")

    source = pretrained.load_pretrained(teacher / "best", head="masked_lm")
    noise = tmp_path / "noise"
    embedding = source.params["encoder"]["embeddings"]["word"]["embedding"]
    embedding += 5 * np.random.default_rng(0).normal(size=embedding.shape).astype(np.float32)
    save.save_pretrained(noise, source.config, source.params, head="masked_lm")
    tokenizer_lib.save_tokenizer(tokenizer_lib.load_tokenizer(teacher / "best"), noise)
    with pytest.raises(ValueError, match=r"no better than the words' frequencies"):
        run.run(_config(noise, ("teacher.allow_weak", "False")), tmp_path / "b")


def test_a_tokenizer_that_is_not_the_teachers_is_refused(teacher, tmp_path):
    other = tokenizer_training.train_wordpiece(["other words than those of the demo text"], 60)
    tokenizer_lib.save_tokenizer(other, tmp_path / "other")
    with pytest.raises(ValueError, match="the tokenizer is not the one of"):
        run.run(_config(teacher, ("tokenizer_path", str(tmp_path / "other"))), tmp_path / "run")


def test_contradictions_of_a_stage_on_a_corpus_are_refused_before_it_is_tokenised(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_lib, "load", lambda *_, **__: pytest.fail("was tokenised"))
    for change, message in (
        (("teacher.cache", "on"), "masks of a corpus change"),
        (("objective.negatives.source", "in_batch+bank"), "bank"),
        (("data.sources", ""), "no text"),
        (("data.batch_size", "30"), "not divisible"),
        (("data.max_length", "1024"), "512 positions"),
        (("objective.layer_matches", "1:9"), "layer 9"),
    ):
        with pytest.raises(ValueError, match=message):
            run.run(_config(teacher, change), tmp_path)


def test_one_command_goes_from_text_to_an_exported_student(tmp_path, capsys):
    text = tmp_path / "text"
    text.mkdir()
    for number in range(3):
        lines = [f"the {word} of page {number} sees the {word} again and again" for word in ("cat", "dog", "bird") * 8]
        (text / f"{number}.txt").write_text("\n".join(lines))
    teacher = [("student.num_layers", "2"), ("student.hidden_size", "32"), ("student.num_heads", "2")]
    teacher += [("student.intermediate_size", "64")]
    small = [*SMALL[1:], ("data.eval_batch_size", "32")]
    job = {"output": str(tmp_path / "job"), "overrides": small, "teacher_overrides": [*teacher, *SMALL[3:]]}
    results = compress(text=str(text), **job)
    assert "parity passed" in results["parity"]
    assert set(results["models"]) == {"teacher", "hidden_first"}
    assert (tmp_path / "job" / "report.html").stat().st_size > 0
    told = capsys.readouterr().out
    assert "warning: the teacher" in told and "no better than the words' frequencies" in told  # after 8 steps
    refused = {**job, "overrides": [*small, ("teacher.allow_weak", "False")]}
    assert compress(text=str(text), **refused) == json.loads(json.dumps(results.results))  # the same job


@pytest.mark.slow
def test_one_command_first_goes_on_pre_training_a_teacher_without_a_masked_lm_head(teacher, tmp_path, capsys):
    given = _classifier(teacher, tmp_path / "classifier")
    job = {
        "output": str(tmp_path / "job"),
        "teacher": str(given),
        "overrides": SMALL[1:],
        "teacher_overrides": SMALL[3:],
    }
    results = compress(text="demo:24", **job)
    assert results["models"]["teacher"]["folder"] == str(tmp_path / "job" / "teacher" / "best")
    assert f"started from {given} (new: transform/kernel" in capsys.readouterr().out
    assert results["models"]["hidden_first"]["num_layers"] == 1 and "parity passed" in results["parity"]


@pytest.mark.slow
def test_two_processes_tokenise_train_stop_and_go_on_like_one(teacher, tmp_path):
    """Two of four devices, stopped in an epoch, ended by one of eight, against this one; each has its own corpus."""
    commands.assert_two_go_on_like_one(f"{STUDENT},codir", {**dict(SMALL), "teacher.path": str(teacher)}, tmp_path)
    fingerprints = [json.loads((tmp_path / "runs" / name / "results.json").read_text()) for name in ("one", "two")]
    assert fingerprints[0]["data_fingerprint"] == fingerprints[1]["data_fingerprint"]


@pytest.mark.slow
def test_processes_that_do_not_share_the_corpus_are_told_before_they_tokenise(teacher, tmp_path):
    changes = {**dict(SMALL), "teacher.path": str(teacher), "data.cache_dir": f"{tmp_path}/cache_of_{{process_id}}"}
    arguments = [f"--config.{key}={value}" for key, value in changes.items()]
    command = ["train", f"--config={STUDENT},codir", f"--workdir={tmp_path / 'run'}", *arguments]
    statuses, told = zip(*commands.run(command, tmp_path, num_processes=2), strict=True)
    assert statuses[1] == 2 and "data.cache_dir must be a folder on a disk that all hosts share" in told[1], told
    assert statuses[0] != 0 and "tokenising" not in told[0], told
    assert not list(tmp_path.glob("cache_of_*/*"))
