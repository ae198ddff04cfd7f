"""The verb: machines, data sizes without their data, what does not fit, no device touched."""

import collections
import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.evaluation import cost
from codir_jax.main import main
from codir_jax.models import sizes as sizes_lib
from codir_jax.models.heads import abstract_params, build_model
from codir_jax.objectives import codir
from codir_jax.plan import command, estimate, machines, memory, report, topology, work
from codir_jax.plan import planned as planned_lib
from codir_jax.plan.traffic import Transfer
from codir_jax.stage import config as stage_config
from codir_jax.tasks import classification, labelled_outline
from tests.plan.compiled import plan

DEMO = "configs/codir/finetune_distill.py:demo"


def _numbers(*overrides, devices="v5e-8", teacher="tiny", **options):
    told = command.run(DEMO, overrides, devices=devices, teacher=teacher, as_json=True, **options)
    return json.loads(told)


def test_the_number_of_v4_and_v5p_counts_cores():
    assert machines.parse("v4-32").count == machines.parse("v5p-32").count == 16
    assert machines.parse("v5e-256").count == 256
    assert machines.parse("v5e-256").hosts == 32
    assert machines.parse("h100-8", hosts=2).hosts == 2


@pytest.mark.parametrize("text", ["v9-8", "v5e", "v5e-0", "h100x8", "v4-3", ""])
def test_an_unknown_machine_is_refused_with_the_known(text):
    with pytest.raises(ValueError, match="cores" if text == "v4-3" else "MACHINE one of v4, v5e"):
        machines.parse(text)


def test_more_devices_than_there_are_anywhere_are_refused():
    for count in ("1000001", "1000000000000", "1" + 5000 * "0"):
        with pytest.raises(ValueError, match="at most 1,000,000 devices"):
            machines.parse(f"h100-{count}")


def test_hosts_share_devices_evenly():
    with pytest.raises(ValueError, match="shared evenly by 3 hosts"):
        machines.parse("h100-8", hosts=3)


def test_gpus_of_several_hosts_talk_over_the_network():
    assert machines.parse("h100-8").bandwidth == 9 * machines.parse("h100-16").bandwidth
    assert machines.parse("v5e-8").bandwidth == machines.parse("v5e-256").bandwidth


def test_a_ring_sends_a_sum_twice_and_a_gather_once():
    assert Transfer("", "all-reduce", 800.0, 1, 8).sent_bytes == 2 * 700
    assert Transfer("", "all-gather", 800.0, 3, 8).sent_bytes == 3 * 700


def test_named_sizes_have_the_published_parameters():
    def count(name):
        params = abstract_params(build_model(sizes_lib.named(name), "classification", 2))
        return sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6

    # transformers' BertForSequenceClassification and RobertaForSequenceClassification.
    assert count("bert-base") == pytest.approx(109.48, abs=0.01)
    assert count("roberta-large") == pytest.approx(355.36, abs=0.01)


def test_the_bank_is_a_kilobyte_an_example_over_all_devices():
    two = [plan(num_train=n, cache="on", objective=()) for n in (8192, 16384)]
    bank = [memory.held(one.state, one.frozen)["bank and queue"] for one in two]
    assert bank[1] - bank[0] == 8192 * (1024 + 1) // 8  # and a byte: visited or not


@pytest.mark.parametrize("source", ["in_batch+bank", "in_batch+teacher_cache"])
def test_tables_of_many_examples_are_those_of_few_stretched(source, monkeypatch):
    options = {"num_train": 5000, "objective": (("source", source), ("shared", False)), "cache": "on"}
    whole = plan(**options)
    monkeypatch.setattr(labelled_outline, "MAX_TABLE_ROWS", 2000)
    stretched = plan(**options)
    assert memory.held(stretched.state, stretched.frozen) == memory.held(whole.state, whole.frozen)


def test_optimizer_holds_two_moments_and_fsdp_divides_all_three():
    whole, split = (
        memory.held(p.state, p.frozen) for p in (plan(method="distill"), plan(method="distill", mesh=(1, 8, 1)))
    )
    assert whole["optimizer"] == pytest.approx(2 * whole["parameters"], rel=1e-4)
    for kind in ("parameters", "optimizer", "teacher"):
        assert whole[kind] / 8 < split[kind] < whole[kind] / 7  # vectors stay whole


def test_microbatches_and_remat_save_memory_and_cost_operations():
    def numbers(**overrides):
        found = estimate.estimate(plan(layers=(6, 6), overrides=tuple(overrides.items())), machines.parse("v5e-8"))
        return found.passing["activations"], found.flops["student"]

    plain = numbers()
    for change, factor in ((("train.num_microbatches", 4), 4 / 3), (("student.remat", "block"), 4 / 3)):
        bytes_then, flops_then = numbers(**dict([change]))
        assert bytes_then < 0.7 * plain[0]
        assert flops_then == pytest.approx(plain[1] * factor)
    assert numbers(**{"student.remat": "block"})[0] < numbers(**{"student.remat": "dots"})[0] <= plain[0]


def _sent(**case):
    """{(kind, dtype): bytes that a device sends}."""
    found = collections.Counter()
    for one in estimate.transfers(plan(method="finetune", layers=(1, 1), mesh=(2, 4, 1), **case)):
        found[one.kind, one.dtype] += one.sent_bytes
    return found


@pytest.mark.parametrize(
    ("overrides", "sent"),
    [
        # As H200's compiler makes them: kernels of a layer and the word, position and pooler weights; whole biases.
        ({}, {("reduce-scatter", "float32"): 1.048e6, ("all-reduce", "float32"): 0.367e6}),
        (
            {"student.dtype": "bfloat16", "optimizer.gradient_dtype": "bfloat16"},
            {
                ("reduce-scatter", "float32"): 0.458e6,
                ("reduce-scatter", "bfloat16"): 0.295e6,
                ("all-reduce", "float32"): 0.171e6,
                ("all-reduce", "bfloat16"): 0.098e6,
            },
        ),
        ({"train.num_microbatches": 2}, {("reduce-scatter", "float32"): 1.713e6, ("all-reduce", "float32"): 0.370e6}),
    ],
)
def test_gradients_under_fsdp_are_scattered_in_their_dtype(overrides, sent):
    found = _sent(overrides=tuple(overrides.items()))
    gathered = found.pop(("all-gather", "float32"))
    assert gathered == pytest.approx(1.048e6, rel=0.01)
    assert found == {key: pytest.approx(value, rel=0.02) for key, value in sent.items()}


TWO_CLASSES = cost.Outputs(2)


def test_operations_of_the_encoders_are_three_passes_and_one():
    sizes = sizes_lib.named("tiny")
    found = work.encoders(sizes, sizes, TWO_CLASSES, 16, 8, remat="none", num_microbatches=1)
    assert found["student"] == 3 * found["teacher"] > 0
    assert work.encoders(sizes, None, TWO_CLASSES, 16, 8, remat="none", num_microbatches=1)["teacher"] == 0


def test_the_data_of_a_config_are_counted_and_sampled(monkeypatch):
    config = config_lib.load(f"{DEMO},tiny")
    tokenizer = classification.fresh_tokenizer(config)
    whole = labelled_outline.outline(config, 0, 0, tokenizer, "cpu")
    assert whole.num_train == len(whole.lengths) == 512
    for limit in ("NUM_TOKENISED", "MAX_ALL"):
        monkeypatch.setattr(labelled_outline, limit, 100)
    part = labelled_outline.outline(config, 0, 0, tokenizer, "cpu")
    assert part.num_train == 512
    assert 80 <= len(part.lengths) <= 100
    assert part.lengths.mean() == pytest.approx(whole.lengths.mean(), rel=0.05)
    words = labelled_outline.outline(config, 0, 0, None, "cpu")
    assert "estimated" in words.told
    assert labelled_outline.outline(config, 10**9, 0, tokenizer, "cpu").num_train == 10**9


def test_padded_lengths_are_those_that_a_run_chooses():
    config = stage_config.default_config(codir.default_config())
    config.data.update({"num_length_buckets": 2, "batch_size": 4, "bucket_window": 1, "max_length": 32})
    lengths = np.asarray([4] * 4 + [20] * 4)
    found = labelled_outline.of_lengths(config, 8, lengths, 2, False, "", "cpu")
    assert found.longest == 20
    assert sum(found.shares) == pytest.approx(1.0)


@pytest.mark.slow
def test_a_batch_larger_than_memory_is_told_with_what_to_change():
    large = [("data.batch_size", "81920")]
    options = {"teacher": "minilm", "num_examples": 10**6, "length": 16}
    advice = _numbers(*large, **options)["advice"]
    assert "DOES NOT FIT" in advice[0]
    fitting = [line for line in advice if line.endswith("fits")]
    assert any("train.num_microbatches" in line for line in fitting)
    key, value = fitting[0].split(":")[0].strip().removeprefix("--config.").split("=")
    assert not _numbers(*large, (key, value), **options)["advice"]


def test_devices_share_the_tables_but_not_the_search_for_hard_negatives():
    source = ("objective.negatives.source", "in_batch+teacher_cache")
    few, many = (_numbers(source, num_examples=10**6, length=16, devices=f"v5e-{n}") for n in (8, 32))
    tables = [numbers["bytes_per_device"]["tables"] for numbers in (few, many)]
    # Class and text number, and the teacher's states: the tiny one's are one layer of 32, in float32.
    assert tables[0] == pytest.approx(10**6 * (8 + 4 * 32) / 8, rel=0.07) and tables[1] == pytest.approx(
        tables[0] / 4, rel=0.05
    )
    assert not few["advice"]
    hard = _numbers(source, ("objective.negatives.num_hard", "4"), num_examples=10**6, length=16)
    assert "lie whole on every device, while hard negatives are searched" in hard["advice"][0]


def test_a_large_train_set_costs_a_host_no_more_than_one_of_a_million():
    small, large, largest = (_numbers(num_examples=10**n, length=16)["host_bytes"] for n in (4, 7, 9))
    assert small == 10**4 * (5 * 16 + 17 + 64)  # tokens and their types, facts, the order
    assert largest == pytest.approx(large, rel=0.01) and large < 10**8


def test_a_bank_that_the_devices_do_not_divide_is_told():
    sizes = [("data.batch_size", "4096"), ("data.eval_batch_size", "4096")]
    for num_examples, parts in ((4096, []), (5000, ["5,120 rows are split over 1 of 2048"])):
        advice = _numbers(*sizes, num_examples=num_examples, length=16, devices="v5e-2048")["advice"]
        assert [part in line for part, line in zip(parts, advice, strict=True)] == [True] * len(parts)


def test_the_number_of_steps_follows_from_examples_and_epochs():
    numbers = _numbers(num_examples=6400, length=16)
    assert (numbers["steps"], numbers["epochs"], numbers["examples"]) == (200, 2.0, 6400)
    step = numbers["seconds_per_step"]["step"]
    assert 200 * step < numbers["seconds"] < 300 * step  # and the one pass of the teacher
    live = _numbers(("teacher.cache", "off"), num_examples=6400, length=16)
    assert live["seconds"] == pytest.approx(200 * live["seconds_per_step"]["step"])


def test_twice_the_utilisation_is_half_the_time_of_computing():
    one, two = (
        _numbers(("data.batch_size", "8192"), num_examples=65536, length=16, utilisation=u)["seconds_per_step"]
        for u in (0.01, 0.02)
    )
    assert one["encoders"] == pytest.approx(2 * two["encoders"])
    assert one["optimizer"] == two["optimizer"]  # memory is moved as fast as ever


def test_no_time_is_told_without_a_published_peak():
    numbers = _numbers(num_examples=6400, length=16, devices="cpu-8")
    assert numbers["seconds"] is None
    text = command.run(DEMO, [], devices="cpu-8", teacher="tiny", num_examples=6400, length=16)
    assert "no time is told" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"devices": "v5e-7"}, "not divisible by 7 devices"),
        ({"utilisation": 0.0}, "--utilisation"),
        ({"num_examples": -1}, "--examples"),
        ({"length": 500}, "above data.max_length"),
    ],
)
def test_what_cannot_be_planned_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        _numbers(**options)


def test_the_plan_stands_beside_what_is_compiled(capsys):
    options = {"devices": "cpu-8", "teacher": "tiny", "num_examples": 6400, "length": 16, "as_json": True}
    told = command.run(f"{DEMO},finetune", [], **options, compiles=True)
    numbers = json.loads(told)["compiled"]
    assert "compiling" in capsys.readouterr().err
    ratios = {
        name: numbers[name]["plan"] / numbers[name]["compiled"] for name in ("peak", "sent: all-reduce float32", "sent")
    }
    # Of so short texts XLA sums the rows of the position table that they have, an eighth of this student.
    assert ratios == pytest.approx({"peak": 1, "sent: all-reduce float32": 1.2, "sent": 1.2}, abs=0.15)
    assert numbers["seconds"] == {"plan": None, "compiled": None}  # nobody tells one for a CPU
    assert 0 < numbers["compile_seconds"] < 60


def test_without_its_compiler_a_machine_is_planned_and_not_compiled(monkeypatch):
    monkeypatch.setattr(topology, "is_installed", lambda module: False)
    assert _numbers(num_examples=6400, length=16, devices="h100-8")["devices"]["count"] == 8
    with pytest.raises(ValueError, match=r"pip install 'codir-jax\[aot-gpu\]'"):
        _numbers(num_examples=6400, length=16, devices="h100-8", compiles=True)


def test_no_device_is_touched_whatever_platform_is_asked_for():
    code = (
        "from codir_jax.main import main\nimport sys\n"
        f"flags = ['--config={DEMO}', '--teacher=tiny', '--devices=v5e-8', '--examples=999', '--length=16']\n"
        "status = main(['plan', *flags])\n"
        "from jax._src import xla_bridge\n"
        "print(status, xla_bridge.backends_are_initialized(), file=sys.stderr)"
    )
    env = {**os.environ, "JAX_PLATFORMS": "tpu"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == "0 False"
    assert "v5e as published (https://cloud.google.com/tpu/docs/v5e)" in done.stdout
    assert "40% of the published peak" in done.stdout


def test_the_command_prints_json(capsys):
    flags = [f"--config={DEMO}", "--teacher=tiny", "--devices=h100-8", "--examples=999", "--length=16", "--json"]
    assert main(["plan", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["devices"] == {"name": "h100-8", "count": 8, "hosts": 1}


def test_sizes_and_durations_read_well():
    assert [report.size(n) for n in (0, 999, 1.5e6, 2e15)] == ["0 B", "999 B", "1.5 MB", "2e+03 TB"]
    assert [report.duration(s) for s in (90, 600, 7200, 864000)] == ["90 seconds", "10 minutes", "2 hours", "10 days"]


def test_what_nobody_has_counted_is_told_so_and_gets_no_number():
    planned = plan()
    uncounted = dataclasses.replace(planned.stage)
    uncounted.__dict__["objective"] = planned.stage.objective._replace(cost=None)
    with pytest.raises(planned_lib.NotModelledError, match="'codir' is not modelled"):
        estimate.estimate(dataclasses.replace(planned, stage=uncounted))
    text = report.at_start(uncounted, planned.state, planned.frozen)
    assert "not modelled" in text and "parameters" in text


def test_the_table_at_the_start_of_a_run_says_what_lies_where():
    planned = plan()
    text = report.at_start(planned.stage, planned.state, planned.frozen)
    assert "mesh data 8 x fsdp 1 x model 1" in text
    for word in ("processes", "parameters", "optimizer", "bank and queue", "activations"):
        assert word in text
