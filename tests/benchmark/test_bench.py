"""The verb on a tiny model: what it reports follows from the shapes; no figure of time is asserted."""

import dataclasses
import json

import pytest

from codir_jax.benchmark import bench, child, exchange, peak, table
from codir_jax.benchmark import subject as subject_lib
from codir_jax.benchmark.bench import Request
from codir_jax.evaluation import cost
from codir_jax.main import main
from codir_jax.models import sizes as sizes_lib

# The method with the fewest operations to compile.
DISTILL = "configs/codir/finetune_distill.py:demo,distill"
SMALL = (
    ("data.num_train_examples", "64"),
    ("data.eval_batch_size", "8"),
    ("data.bucket_window", "1"),
    ("optimizer.clip_norm", "0"),
)


@pytest.fixture(autouse=True, scope="module")
def small_products():
    """The peak of the machine is nothing that these tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peak, "SIZES", {"cpu": (32,)})
        yield


@pytest.fixture(scope="module")
def steps(small_products):
    """Steps of both stages, evaluation and inference on random texts of 8 tokens, batch 16."""
    sections = ("train_live", "pretraining", "evaluation", "inference")
    return bench.run(Request(sections, DISTILL, SMALL, "tiny", steps=2, fixed_length=8, batch_size=16), started=0.0)


def test_every_section_is_there_and_is_json(steps):
    assert tuple(steps["sections"]) == ("train_live", "pretraining", "evaluation", "inference")
    assert json.loads(json.dumps(steps)) == steps
    assert steps["sentences_per_second"] == steps["sections"]["train_live"]["sentences_per_second"]


def test_flops_are_those_of_the_shapes(steps):
    sizes = sizes_lib.named("tiny")
    half = dataclasses.replace(sizes, num_layers=1)
    live = steps["sections"]["train_live"]["flops_per_step"]
    assert live["teacher"]["padded"] == live["teacher"]["real"] == 16 * cost.model_flops(sizes, 8, cost.Outputs(2))
    assert live["student"]["padded"] == 3 * 16 * cost.model_flops(half, 8, cost.Outputs(2))


def test_pretraining_counts_the_vocabulary_at_its_masked_positions(steps):
    found = steps["sections"]["pretraining"]["flops_per_step"]["teacher"]
    sizes = sizes_lib.named("tiny")  # 32 wide; 15 % of 6 words are one
    head = 16 * (2 * 32**2 + 2 * 32 * sizes.vocab_size)
    without = 16 * (cost.model_flops(sizes, 8, cost.Outputs(2)) - 2 * 32**2 - 2 * 32 * 2)
    assert found["padded"] == found["real"] == without + head
    assert steps["sections"]["pretraining"]["num_programs_while_timed"] == 0


def test_pretraining_batches_are_masked_chunks_of_the_same_sizes():
    like = subject_lib.make(
        subject_lib.load_config(DISTILL, SMALL, batch_size=16, fixed_length=20), model="tiny", fixed_length=20
    )
    subject = subject_lib.pretraining(like)
    batch = next(subject.stage.feed.train_on_host(0, 1, {}))
    assert batch["input_ids"].shape == (16, 20)
    assert batch["masked_positions"].shape == (16, 3)  # 15 % of 18 words
    assert batch["masked_weights"].sum() == 48
    assert len(set(batch["document_ids"])) <= 8  # fours of neighbours, each of one document or two
    assert (subject.config.objective.name, subject.stage.task.head.name) == ("codir", "masked_lm")
    assert subject.stage.feed.steps_per_epoch == like.stage.feed.steps_per_epoch == 4


def test_rates_belong_together(steps):
    for name in ("train_live", "pretraining", "evaluation"):
        section = steps["sections"][name]
        assert section["real_token_share"] == 1.0
        assert section["padded_tokens_per_second"] == pytest.approx(8 * section["sentences_per_second"])
        ratio = section["utilisation"]["padded"] * steps["peak"]["flops_per_second"]
        assert ratio == pytest.approx(section["flops_per_second"]["padded"])
    assert steps["sections"]["train_live"]["num_programs_while_timed"] == 0
    assert 0 <= steps["sections"]["train_live"]["input_waiting_share"] <= 1
    assert set(steps["sections"]["inference"]["teacher_over_student"]) == {"batch_1_p50", "batch_32_p50"}


def test_the_table_shows_every_section(steps):
    text = table.render(steps)
    for word in (
        "train_live",
        "pretraining",
        "evaluation",
        "inference, 8 tokens",
        "utilisation, real",
        "step, median",
        "batch 32",
    ):
        assert word in text
    assert "step, mean" not in text  # a row that no section has


def test_whole_epochs_leave_the_first_one_out(tmp_path, capsys):
    arguments = ["bench", "--model=tiny", "--epochs=3", "--sections=train_cached", "--json", f"--output={tmp_path}"]
    arguments += [
        f"--config={DISTILL}",
        "--batch_size=16",
        "--config.data.demo_num_dev=8",
        "--config.data.demo_num_train=40",
        "--config.data.num_length_buckets=1",
    ]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads((tmp_path / "bench.json").read_text()) == told
    section = told["sections"]["train_cached"]
    assert len(section["epoch_seconds"]) == 3
    assert section["num_steps"] == 9
    assert section["num_programs_after_first_epoch"] == 0
    # 80 sentences in the two epochs that count, though the last batch of each is half empty.
    assert told["sentences_per_second"] == pytest.approx(80 / sum(section["epoch_seconds"][1:]))
    assert section["padded_tokens_per_second"] == pytest.approx(told["sentences_per_second"] * 48 * 18 / 40)
    assert section["real_token_share"] < 1
    flops = section["flops_per_step"]["student"]
    assert section["flops_per_step"]["teacher"] == {"padded": 0.0, "real": 0.0}
    assert flops["real"] < flops["padded"] * section["real_token_share"] * 1.01


EMBEDDED = pytest.param(["--config.data.max_dev_chunks=8"], marks=pytest.mark.slow)


@pytest.mark.parametrize("texts", [["--fixed_length=16"], EMBEDDED])
def test_a_config_of_running_text_is_measured_too(texts, capsys):
    """With random chunks and with its own embedded documents; no teacher's outputs are kept where masks change."""
    config = ["--config=configs/codir/pretrain_distill.py:tiny", "--config.data.batch_size=8"]
    arguments = [*config, "--config.data.eval_batch_size=8", "--config.optimizer.clip_norm=0", "--steps=2", *texts]
    assert main(["bench", "--model=tiny", "--json", "--sections=train_live", *arguments]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["sections"]["train_live"]["num_steps"] == 2
    assert main(["bench", "--model=tiny", "--sections=train_cached", *arguments]) == 2
    assert "it has: train_live, evaluation, inference" in capsys.readouterr().err


@pytest.mark.slow
def test_8_devices_exchange_nothing_that_grows_with_batch_times_width():
    config = subject_lib.load_config(DISTILL, SMALL, batch_size=16, fixed_length=8)
    sizes = dataclasses.replace(sizes_lib.named("tiny"), num_layers=1, vocab_size=64)
    section = exchange.measure(subject_lib.make(config, model=sizes, fixed_length=8))
    assert section["num_devices"] == 8
    assert section["kinds"]["all-reduce"]["bytes"] > 4 * 8 * 32**2  # the gradient of a layer's kernels and more
    assert section["bytes_double_width"] > 1.9 * section["bytes"]
    assert section["bytes_double_batch"] == section["bytes"]  # soft targets need nobody else's features
    assert section["grows_with_batch"] == []
    assert section["batch_times_width_bytes"] == 0
    assert "growing with batch x width" in "\n".join(table._collectives(section))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sections=training"], "known: train_live, train_cached"),
        (["--model=huge"], "known: tiny, minilm, bert-base"),
        (["--epochs=1"], "at least 2"),
        (["--steps=1"], "--steps must be >= 2"),
        (["--config=configs/codir/finetune_distill.py:cola,finetune"], "choose another method"),
        (["--model=tiny", "--config.teacher.path=runs/teacher"], "not both"),
        (["--model=tiny", "--fixed_length=1024"], "512 positions"),
        (["--model=tiny", "--batch_size=12", "--fixed_length=8"], "not divisible by 8 devices"),
        (["--config.data.batchsize=1"], "Did you mean"),
        (["--compare=true", "--sweep=length", "--output=o"], "give one of them"),
        (["--sweep=depth", "--output=o"], "known: length, batch, layers"),
        (["--sweep=length"], "name their folder by --output"),
        (["--compare=true", "--pairs=0"], "--pairs must be >= 1"),
    ],
)
def test_bad_input_is_told_before_anything_is_measured(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_child_measures_the_same_request():
    from codir_jax.main import parser, split_overrides

    request = Request(("train_live",), "c.py:cola", (("seed", "3"),), "tiny", 7, 2, 16, 8)
    words = child.child_command(request)
    rest, overrides = split_overrides(words[words.index("bench") :])
    flags = parser().parse_args(rest)
    assert flags.as_json
    again = Request(
        flags.sections,
        flags.config,
        tuple(overrides["config"]),
        flags.model,
        flags.steps,
        flags.epochs,
        flags.fixed_length,
        flags.batch_size,
    )
    assert again == request
