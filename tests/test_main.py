"""The command line: help, wrong flags, and every verb on a tiny job."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

import codir_jax
from codir_jax import main as main_lib
from codir_jax.main import main
from codir_jax.processes import distributed, environment, stop
from codir_jax.processes.user_error import MissingFileError
from codir_jax.training.metrics import NonFiniteError

DISTILL = "configs/codir/finetune_distill.py"
TINY_JOB = [
    "--config.data.demo_num_train=192",
    "--config.data.demo_num_dev=64",
    "--config.train.total_epochs=1",
    "--config.data.num_length_buckets=1",
    "--config.teacher.allow_weak=true",
    "--teacher_config.data.demo_num_train=192",
    "--teacher_config.data.demo_num_dev=64",
    "--teacher_config.train.total_epochs=1",
    "--teacher_config.data.num_length_buckets=1",
    "--teacher_config.student.hidden_size=32",
    "--teacher_config.student.intermediate_size=64",
    "--teacher_config.student.num_layers=2",
]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A finished compression of the demo with one baseline."""
    folder = tmp_path_factory.mktemp("job") / "out"
    assert main(["compress", "--demo", "--compare=distill", f"--output={folder}", *TINY_JOB]) == 0
    return folder


@pytest.mark.parametrize("verb", main_lib.VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"codir {verb} --" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config=configs/nothing.py", "--workdir=w"], "does not exist"),
        (["train", f"--config={DISTILL}", "--workdir=w"], "teacher.path is empty"),
        (
            ["train", "--config=configs/codir/finetune_distill.py", "--workdir=w", "--config.sed=1"],
            "Did you mean 'seed'",
        ),
        (["train", f"--config={DISTILL}", "--workdir=w", "--config.seed"], "has no value"),
        (["compress", "--output=o", "--teacher=t"], "give one of --train"),
        (["compress", "--output=o", "--train=t.tsv"], "no such file"),
        (["compress", "--output=o", "--demo", "--compare=best"], "finetune, distill, released, codir"),
        (["compress", "--output=o", "--task=sst3", "--teacher=t"], "known: cola"),
        (["compress", "--output=o", "--task=sst2"], "--teacher is empty"),
        (["evaluate", "--model=./nowhere", "--config=configs/codir/finetune_distill.py:cola"], "nowhere"),
        (["predict", "--model=./nowhere"], "nowhere"),
        (["export", "--model=./nowhere", "--output=o"], "nowhere"),
        (["export", "--model=m", "--output=o", "--config.seed=1"], "takes no --config"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told


def test_an_unknown_flag_is_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--confg=x"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (stop.Interrupted(5, signal.SIGTERM), 75, "SIGTERM after step 5; the same command goes on"),
        (stop.Interrupted(5, signal.SIGINT), 130, "SIGINT after step 5"),
        (OSError(28, "No space left on device", "w/metrics.jsonl"), 4, "w/metrics.jsonl'; make room"),
        (NonFiniteError("loss is nan at step 3"), 3, "error: loss is nan"),
        (MissingFileError("no such teacher"), 2, "error: no such teacher"),
    ],
)
def test_how_a_run_ended_is_in_its_exit_status(error, status, told, monkeypatch, tmp_path, capsys):
    from codir_jax.stage import run

    def stopped(config, workdir, **_):
        raise error

    monkeypatch.setattr(run, "run", stopped)
    assert main(["train", "--config=configs/codir/finetune_teacher.py:tiny", f"--workdir={tmp_path}"]) == status
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, FloatingPointError, OSError, KeyError])
def test_a_slip_of_the_program_keeps_its_traceback(kind, monkeypatch, tmp_path):
    """It is not told as bad input, whatever its kind: what Python ends with is status 1 and the traceback."""
    from codir_jax.stage import run

    def slip(config, workdir, **_):
        raise kind("shapes (3, 2) and (3,) do not match")

    monkeypatch.setattr(run, "run", slip)
    with pytest.raises(kind, match="do not match"):
        main(["train", "--config=configs/codir/finetune_teacher.py:tiny", f"--workdir={tmp_path}"])


def test_sigterm_before_the_first_step_ends_like_one_after_it(monkeypatch, tmp_path):
    from codir_jax.stage import run

    monkeypatch.setattr(run, "run", lambda config, workdir, **_: signal.raise_signal(signal.SIGTERM))
    status = main(["train", "--config=configs/codir/finetune_teacher.py:tiny", f"--workdir={tmp_path}"])
    assert status == distributed.PREEMPTED


def test_a_job_exported_again_has_the_card_that_it_had(job, tmp_path):
    card = (job / "export" / "README.md").read_text()
    for model, name in ((job, "one"), (job / "export", "two")):
        assert main(["export", f"--model={model}", f"--output={tmp_path / name}"]) == 0
    card = re.sub(r"(?m)^(# |- name: )export$", r"\1one", card).replace("over 32 examples", "over 3 examples")
    assert (tmp_path / "one" / "README.md").read_text() == card  # the job has rows to compare by, and this command not
    facts = [ModelCard((tmp_path / name / "README.md").read_text()).data.to_dict() for name in ("one", "two")]
    facts = [{**fact, "model-index": fact["model-index"][0]["results"]} for fact in facts]
    assert facts[0] == facts[1] and facts[0]["model-index"]


def test_a_home_folder_is_that_of_the_user(monkeypatch, tmp_path, job):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["export", f"--model={job}", "--output=~/exported"]) == 0
    assert (tmp_path / "exported" / "config.json").is_file()


def test_compress_leaves_a_table_a_report_and_an_export(job):
    results = json.loads((job / "results.json").read_text())
    assert list(results["models"]) == ["teacher", "distill", "l2"]
    for row in results["models"].values():
        assert -1 <= row["dev"]["matthews_correlation"] <= 1
        assert row["latency"]["batch_1_p50_ms"] > 0
        assert row["bytes"] > 4 * row["parameters"]  # float32, and the header of the file
    assert results["models"]["l2"]["num_layers"] == 1
    assert results["models"]["l2"]["parameters"] < results["models"]["teacher"]["parameters"]
    assert "parity passed" in results["parity"]
    assert "data:image/svg+xml;base64" in (job / "report.html").read_text()
    assert "| student, soft targets + L2" in (job / "report.md").read_text()
    assert (job / "export" / "model.safetensors").exists()


def test_compress_run_again_says_that_it_is_done(job, capsys):
    assert main(["compress", "--demo", "--compare=distill", f"--output={job}", *TINY_JOB]) == 0
    assert "already finished" in capsys.readouterr().out


def test_compress_refuses_a_folder_with_another_job(job, capsys):
    assert main(["compress", "--demo", f"--output={job}", *TINY_JOB, "--seed=5"]) == 2
    told = capsys.readouterr().err
    assert "other settings" in told and "seed: 5 here, 0 there (teacher, distill, l2)" in told


def test_evaluate_gives_the_score_that_training_reported(job, capsys):
    assert main(["evaluate", f"--model={job / 'l2'}"]) == 0
    told = json.loads(capsys.readouterr().out)
    reported = json.loads((job / "l2" / "results.json").read_text())["dev"]
    assert told["matthews_correlation"] == pytest.approx(reported["matthews_correlation"])
    assert main(["evaluate", f"--model={job / 'l2'}", "--split=test"]) == 2


def test_predict_reads_lines_and_tables_and_writes_json_lines(job, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("the cat sleeps\n\nthe cats sleeps\n")
    (tmp_path / "texts.tsv").write_text("id\tsentence\n1\tthe cat sleeps\n2\tthe cats sleeps\n")
    model = f"--model={job / 'export'}"
    assert main(["predict", model, f"--input={tmp_path / 'texts.txt'}"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1.0, abs=1e-6)
    assert lines[0]["label"] == max(lines[0]["probabilities"], key=lines[0]["probabilities"].get)
    assert main(["predict", model, f"--input={tmp_path / 'texts.tsv'}", f"--output={tmp_path / 'out.jsonl'}"]) == 0
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == lines[::2]
    assert main(["predict", model, f"--input={tmp_path / 'texts.tsv'}", "--text_column=txt"]) == 2
    assert "sentence" in capsys.readouterr().err


def test_predict_answers_for_a_split_of_the_data_that_the_workdir_names(job, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert main(["predict", f"--model={job / 'l2'}", "--split=dev", f"--output={out}"]) == 0
    assert f"written: {out}" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 64
    assert main(["predict", f"--model={job / 'l2'}", "--split=dev", "--input=texts.txt"]) == 2
    assert main(["predict", f"--model={job / 'l2'}", "--split=test"]) == 2


def test_evaluate_takes_the_folder_of_a_job(job, capsys):
    """Its export, on the data of its main stage."""
    told = []
    for model in (job / json.loads((job / "results.json").read_text())["exported"], job):
        assert main(["evaluate", f"--model={model}"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["matthews_correlation"] == pytest.approx(told[1]["matthews_correlation"])


def test_the_python_interface_answers_like_the_command(job):
    classify = codir_jax.load(str(job / "export"))
    texts = ["the cat sleeps", "a much longer text that is padded to another length than the first one"]
    answers = classify(texts)
    assert [set(a) for a in answers] == [{"label", "probabilities", "logits"}] * 2
    np.testing.assert_allclose(classify(texts[:1])[0]["logits"], answers[0]["logits"], atol=1e-5)
    assert classify([]) == []
    with pytest.raises(ValueError, match="list of texts"):
        classify("one text")


def test_export_of_a_workdir_writes_the_card_with_its_results(job, tmp_path, capsys):
    assert main(["export", f"--model={job / 'l2'}", f"--output={tmp_path / 'small'}"]) == 0
    assert "parity passed" in capsys.readouterr().out
    card = (tmp_path / "small" / "README.md").read_text()
    assert "matthews_correlation" in card


def test_a_teacher_with_a_fitting_head_is_taken_as_it_is(job, tmp_path, monkeypatch):
    """The job's own teacher, given by name, is not fine-tuned again; for other classes it is."""
    from codir_jax.jobs import work as work_lib
    from codir_jax.jobs.compress import compress

    class Trains(Exception):
        """What is trained first, and from which teacher."""

    def train(config, workdir, **_):
        raise Trains(workdir.name, config.teacher.path)

    monkeypatch.setattr(work_lib, "train_stage", train)
    own, given = str(tmp_path / "train.tsv"), str(job / "teacher")
    Path(own).write_text("sentence\tlabel\na b\tx\nb c\ty\nc d\tz\n")
    for data, first in (({"demo": True}, ("l2", given)), ({"train": own, "dev": own}, ("teacher", ""))):
        with pytest.raises(Trains) as found:
            compress(given, **data, output=str(tmp_path / first[0]))
        assert found.value.args == first


@pytest.mark.slow  # tests/jobs/test_compress.py does the same with names in an order of their own
def test_compress_on_own_files_fine_tunes_a_teacher_without_a_head_for_the_labels(job, tmp_path, capsys):
    rows = [f"the {a} {b}\t{'good' if a == 'cat' else 'bad'}" for a in ("cat", "dogs") for b in "abcdefghijklmnop"]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    arguments = [
        "compress",
        f"--teacher={job / 'teacher'}",
        f"--train={tmp_path / 'train.tsv'}",
        f"--dev={tmp_path / 'dev.tsv'}",
        "--text_column=text",
        "--layers=1",
        f"--output={tmp_path / 'out'}",
        "--config.data.num_length_buckets=1",
        "--config.train.total_epochs=1",
        "--config.teacher.allow_weak=true",
        "--teacher_config.data.num_length_buckets=1",
        "--teacher_config.train.total_epochs=1",
    ]
    assert main(arguments) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["primary_metric"] == "accuracy"
    assert results["models"]["l2"]["num_layers"] == 1
    config = json.loads((tmp_path / "out" / "export" / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    capsys.readouterr()
    model = f"--model={tmp_path / 'out' / 'export'}"
    assert main(["predict", model, f"--input={tmp_path / 'dev.tsv'}", "--text_column=text"]) == 0
    answers = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 32
    assert set(answers) <= {"good", "bad"}


def test_the_command_starts_itself_anew_once_for_huge_pages(monkeypatch):
    calls = []
    monkeypatch.setattr(environment.os, "execv", lambda path, arguments: calls.append(arguments))
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(environment.sys, "orig_argv", ["python", "-m", "codir_jax.main", "train"])
    monkeypatch.setenv("GLIBC_TUNABLES", "")  # so that it is put back afterwards
    monkeypatch.delenv("GLIBC_TUNABLES")
    environment.use_huge_pages()
    assert calls == [[environment.sys.executable, "-m", "codir_jax.main", "train"]]
    assert environment.os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    environment.use_huge_pages()  # the new process has it: no endless loop
    monkeypatch.setattr(environment.sys, "platform", "darwin")
    monkeypatch.delenv("GLIBC_TUNABLES")
    environment.use_huge_pages()
    assert len(calls) == 1
