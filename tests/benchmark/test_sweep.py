"""Sweeps: which points, what a row holds, what is skipped, and that plots are drawn from rows."""

import csv

import pytest

from codir_jax.benchmark import memory, plots, sweep
from codir_jax.benchmark.bench import Request

REQUEST = Request(model="tiny", steps=2, overrides=(("objective.contrastive_weight", "0.2"),))


def _rows(name):
    return [
        {
            **dict.fromkeys(sweep.COLUMNS, ""),
            "sweep": name,
            "value": value,
            "series": series,
            "step_ms_median": 2.0 * value,
            "step_ms_p5": 1.0 * value,
            "step_ms_p95": 3.0 * value,
            "sentences_per_second": 100.0,
            "program_bytes": 2**20 * value,
            "state_bytes": 2**20,
            "collectives": 3,
            "collective_bytes": 5000 * value,
        }
        for value in sweep.SWEEPS[name][:3]
        for series in ("a", "b")
    ]


@pytest.mark.parametrize("name", sweep.SWEEPS)
def test_every_sweep_has_a_plot(name, tmp_path):
    rows = _rows(name)
    rows.append({**dict.fromkeys(sweep.COLUMNS, ""), "value": 10**9, "series": "a", "skipped": "needs 9 GiB"})
    plots.draw(name, rows, tmp_path / "plot.png", sweep.describe(REQUEST, name))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_named_size_varies():
    for name in ("length", "batch", "layers"):
        first, other = (sweep.points(name, value, 32, 8) for value in sweep.SWEEPS[name][:2])
        assert [point.live for point in first] == [True, False]
        for a, b in zip(first, other, strict=True):
            assert {field for field in vars(a) if getattr(a, field) != getattr(b, field)} == {name}
    baselines = [point for point in sweep.points("negatives", 100, 32, 8) if point.objective == "distill"]
    assert [point for point in sweep.points("negatives", 400, 32, 8) if point in baselines] == baselines
    assert sweep.points("bank_rows", 10**6, 32, 8)[0].bank_rows == 10**6


def test_a_point_is_measured_with_its_own_bank_and_negatives():
    point = sweep.Point("x", live=False, length=8, batch=8, negatives=6, bank_rows=1000)
    subject = sweep.make_subject(REQUEST, point)
    state, frozen = subject.stage.abstract_state(live=False)
    assert state.objective_state["bank"]["student"].shape == (1024, 1, 128)
    assert frozen["train_rows"].shape == (1024, 2)
    assert "teacher" not in frozen
    assert subject.config.objective.negatives.num_negatives == 6
    assert subject.config.objective.contrastive_weight == 0.2
    assert {name: x.shape for name, x in sweep.teacher_shaped(subject).items()} == {
        "teacher_logits": (24, 2),
        "teacher_pooled": (24, 1, 32),
    }
    (row,) = sweep.take_turns([sweep.prepare(REQUEST, point)], num_steps=2)
    assert set(row) <= set(sweep.COLUMNS)
    assert row["sentences_per_second"] == pytest.approx(8e3 / row["step_ms_median"])
    assert row["state_bytes"] > 2 * 1000 * 128 * 4


def test_a_point_that_does_not_fit_is_skipped_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1000)
    monkeypatch.setattr(sweep.Subject, "start", None)
    runner = sweep.prepare(REQUEST, sweep.Point("x", live=False, objective="distill", length=8, batch=8))
    (row,) = sweep.take_turns([runner], num_steps=2)
    assert row["skipped"].startswith("needs 0.0 GiB")
    assert "step_ms_median" not in row


def test_steps_are_taken_in_turns_and_the_first_ones_are_left_out(monkeypatch):
    taken = []

    def runner(name, row, batch_size, seconds):
        made = sweep.Runner(row, batch_size)
        monkeypatch.setattr(made, "run", lambda number: taken.append((name, number)) or seconds[number])
        return made

    runners = [runner("a", {}, 8, [9.0, 1.0, 3.0]), runner("b", {"skipped": "x"}, 8, []), runner("c", {}, 4, [9, 1, 1])]
    a, b, c = sweep.take_turns(runners, num_steps=2)
    assert taken == [("a", 0), ("c", 0), ("a", 1), ("c", 1), ("a", 2), ("c", 2)]
    assert (a["step_ms_median"], a["sentences_per_second"], c["sentences_per_second"]) == (2000, 4, 4)
    assert b == {"skipped": "x"}


def test_several_sweeps_have_one_plot_together(tmp_path):
    rows = [row for name in ("length", "batch", "negatives", "devices") for row in _rows(name)]
    plots.draw_together(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_rows_and_plots_are_written_after_each_sweep(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(sweep, "prepare", lambda _, point: asked.append(point) or sweep.Runner({}, point.batch))
    monkeypatch.setattr(sweep.Runner, "run", lambda *_: 1.0)
    monkeypatch.setattr(plots, "draw", lambda name, rows, path, constants: path.touch())
    monkeypatch.setattr(plots, "draw_together", lambda rows, path: path.touch())
    result = sweep.run(REQUEST, ("negatives", "batch"), tmp_path, lambda _: None)
    num_negatives, num_batches = (len(sweep.SWEEPS[name]) for name in ("negatives", "batch"))
    num_indivisible = sum(value % 8 > 0 for value in sweep.SWEEPS["batch"])  # by the devices of the tests
    of_batch = [row for row in result["rows"] if row["sweep"] == "batch"]
    assert [bool(row["skipped"]) for row in of_batch[: num_indivisible + 1]] == [True] * num_indivisible + [False]
    assert len(of_batch) == 2 * (num_batches - num_indivisible) + num_indivisible
    assert len(result["rows"]) == 4 * num_negatives + len(of_batch)
    # The two baselines are compiled once.
    assert len(asked) == 2 * num_negatives + 2 + 2 * (num_batches - num_indivisible)
    with (tmp_path / "sweep.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(result["rows"])
    assert tuple(lines[0]) == sweep.COLUMNS
    assert {path.name for path in tmp_path.iterdir()} == {".codir-bench", "sweep.csv", "sweep.png"} | {
        f"sweep_{name}.png" for name in ("negatives", "batch")
    }


def test_a_sweep_refuses_what_it_cannot_vary(tmp_path):
    with pytest.raises(ValueError, match="known: length, batch"):
        sweep.run(REQUEST, ("depth",), tmp_path, print)
    with pytest.raises(ValueError, match="give --model"):
        sweep.run(Request(overrides=(("teacher.path", "x"),)), ("length",), tmp_path, print)
