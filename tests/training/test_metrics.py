"""Metrics: means of (sum, count) pairs, resumed files, NaN named by step and term."""

import json

import jax.numpy as jnp
import pytest

from codir_jax.training.metrics import MetricBuffer, MetricWriter, NonFiniteError


def _pair(total, count=1.0):
    return jnp.float32(total), jnp.float32(count)


def test_a_flush_is_the_mean_over_examples_not_over_steps():
    buffer = MetricBuffer()
    buffer.append(1, {"loss": _pair(8, 8)})
    buffer.append(2, {"loss": _pair(6, 2)})
    assert buffer.flush() == {"loss": pytest.approx(1.4)}
    assert buffer.flush() == {}


def test_sums_survive_a_stop_bit_for_bit():
    values = [0.1, 0.2, 0.7, 1e-3, 3.3]
    straight, before = MetricBuffer(), MetricBuffer()
    for step, value in enumerate(values):
        straight.append(step, {"loss": _pair(value)})
    for step, value in enumerate(values[:3]):
        before.append(step, {"loss": _pair(value)})
    after = MetricBuffer(json.loads(json.dumps(before.pending())))
    for step, value in enumerate(values[3:], 3):
        after.append(step, {"loss": _pair(value)})
    assert after.flush() == straight.flush()


def test_a_nan_names_step_and_term():
    buffer = MetricBuffer()
    buffer.append(6, {"task_loss": _pair(1.0)})
    buffer.append(7, {"task_loss": _pair(1.0), "contrastive_loss": _pair(float("nan"))})
    with pytest.raises(NonFiniteError, match="contrastive_loss is nan at step 7"):
        buffer.flush()


def test_a_resumed_file_has_neither_doubles_nor_half_lines(tmp_path):
    writer = MetricWriter(tmp_path, 0)
    for step in (10, 20, 30):
        writer.write(step, {"loss": float(step)})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # killed while writing
    writer = MetricWriter(tmp_path, 20)
    writer.write(30, {"loss": float("nan")})
    writer.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["loss"] is None


def test_a_last_line_without_its_end_gets_one(tmp_path):
    """Killed between the line and its newline, the next line must not be glued to it."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "loss": 1.0}')
    writer = MetricWriter(tmp_path, 10)
    writer.write(20, {"loss": 2.0})
    writer.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20]


def test_before_the_first_line_there_is_no_file(tmp_path):
    """A run that is refused before it trains binds nobody to its config, and the file would say that it trained."""
    MetricWriter(tmp_path, 0).close()
    assert not (tmp_path / "metrics.jsonl").exists()
