"""Checkpoints: kept by policy, checked byte by byte, fallen back from, and a writer that fails in the open."""

import json
import resource
import shutil
import sys
import threading
import time
import types

import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.training import checkpoint, integrity
from codir_jax.training.state import TrainState


def _state(step, size=64):
    params = {"w": jnp.arange(size, dtype=jnp.float32) + step, "b": jnp.ones((3, 5))}
    return TrainState(jnp.int32(step), params, (), {}, jnp.zeros(2, jnp.uint32))


def _fill(folder, steps, **options):
    """Saves these steps, {step: score}, each of them finished before the next."""
    writer = checkpoint.Checkpointer(folder, **{"keep_last": 2, **options})
    for step, score in steps.items():
        writer.save(_state(step), {"step": step}, score=score, wait=True)
    writer.close()


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _data_file(folder):
    """The largest file: the arrays."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def _truncate(folder):
    path = _data_file(folder)
    path.write_bytes(path.read_bytes()[:-7])


def _lose_a_shard(folder):
    _data_file(folder).unlink()


def _flip_a_byte(folder):
    path = _data_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _garble(name, text="{"):
    def garble(folder):
        (folder / name).write_text(text)

    return garble


def _take_the_older_one(folder):
    """Its files are whole, and under the wrong number."""
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("10"), folder)


DAMAGES = {
    "truncated": (_truncate, "bytes instead of"),
    "a shard missing": (_lose_a_shard, "is missing"),
    "a byte flipped": (_flip_a_byte, "another checksum"),
    "facts garbled": (_garble("facts/metadata"), "facts/metadata has 1 bytes"),
    "orbax metadata garbled": (_garble("_CHECKPOINT_METADATA"), "_CHECKPOINT_METADATA cannot be read"),
    "array metadata garbled": (_garble("state/_METADATA"), "state/_METADATA has 1 bytes"),
    "manifest garbled": (_garble(integrity.MANIFEST), "manifest.json cannot be read"),
    "manifest of no files": (_garble(integrity.MANIFEST, '{"step": 20, "files": {}}'), "manifest.json lists no files"),
    "manifest of files in a list": (_garble(integrity.MANIFEST, '{"step": 20, "files": []}'), "lists no files"),
    "manifest of a number": (_garble(integrity.MANIFEST, "7"), "lists no files"),
    "entry of one number": (_garble(integrity.MANIFEST, '{"step": 20, "files": {"a": 1}}'), "no size and checksum"),
    "entry outside": (_garble(integrity.MANIFEST, '{"step": 20, "files": {"../10/a": [1, 1]}}'), "file in the folder"),
    "of another step": (_take_the_older_one, "is of step 10, and the folder is of step 20"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, kind):
    damage, reason = DAMAGES[kind]
    _fill(tmp_path, {10: None, 20: None})
    damage(tmp_path / "20")
    told = []
    writer = checkpoint.Checkpointer(tmp_path, keep_last=2, tell=told.append)
    state, facts = writer.restore(_state(0))
    assert facts == {"step": 10}
    np.testing.assert_array_equal(state.params["w"], _state(10).params["w"])
    (line,) = told
    assert "step 20 is damaged" in line and reason in line and "that of step 10" in line

    writer.save(_state(20), {"step": 20, "again": True}, wait=True)  # the same number can be written again
    writer.close()
    assert {"10", "20", "20.damaged"} <= set(_names(tmp_path))  # nothing is deleted
    assert checkpoint.Checkpointer(tmp_path, keep_last=2).restore(_state(0))[1] == {"step": 20, "again": True}


def test_a_step_that_is_damaged_twice_is_set_aside_twice(tmp_path):
    _fill(tmp_path, {10: None, 20: None})
    for _ in range(2):
        _truncate(tmp_path / "20")
        writer = checkpoint.Checkpointer(tmp_path, keep_last=2, tell=lambda line: None)
        writer.restore(_state(0))
        writer.save(_state(20), {}, wait=True)
        writer.close()
    assert {"10", "20", "20.damaged", "20.damaged2"} <= set(_names(tmp_path))


def test_where_no_checkpoint_is_whole_the_run_does_not_start_from_the_beginning(tmp_path):
    _fill(tmp_path, {10: None, 20: None})
    _truncate(tmp_path / "10")
    _lose_a_shard(tmp_path / "20")
    before = _names(tmp_path)
    with pytest.raises(ValueError, match=r"no checkpoint .* is whole \(step 20: .* is missing; step 10: .* bytes"):
        checkpoint.Checkpointer(tmp_path, keep_last=2).restore(_state(0))
    assert _names(tmp_path) == before


def test_an_empty_folder_has_nothing_to_restore(tmp_path):
    assert checkpoint.Checkpointer(tmp_path, keep_last=1).restore(_state(0)) is None


def test_what_a_killed_writer_left_is_not_a_checkpoint(tmp_path):
    _fill(tmp_path, {10: None})
    (tmp_path / "10").rename(tmp_path / "20.orbax-checkpoint-tmp")
    _fill(tmp_path, {10: None})
    assert checkpoint.Checkpointer(tmp_path, keep_last=1).restore(_state(0))[1] == {"step": 10}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"keep_last": 1}, ["60"]),
        ({"keep_last": 3}, ["40", "50", "60"]),
        ({"keep_last": 1, "keep_every_steps": 20}, ["20", "40", "60"]),
        ({"keep_last": 1, "keep_best": 2}, ["10", "30", "60"]),
    ],
)
def test_checkpoints_are_kept_by_policy(tmp_path, options, kept):
    scores = {10: 0.7, 20: 0.1, 30: 0.9, 40: None, 50: 0.2, 60: None}
    first, second = dict(list(scores.items())[:4]), dict(list(scores.items())[4:])
    _fill(tmp_path, first, **options)
    _fill(tmp_path, second, **options)  # a resumed run knows the scores
    assert _names(tmp_path) == kept


def test_facts_that_change_while_they_are_written_are_written_as_they_were(tmp_path, monkeypatch):
    has_changed, dumps = threading.Event(), json.dumps

    def slow(*args, **options):
        if threading.current_thread() is not threading.main_thread():
            has_changed.wait(10)
        return dumps(*args, **options)

    monkeypatch.setattr(json, "dumps", slow)
    facts = {"step": 10, "pending": {"loss": [1.0, 2.0]}}
    writer = checkpoint.Checkpointer(tmp_path, keep_last=1)
    writer.save(_state(10), facts)
    facts["step"] = 11
    facts["pending"]["loss"].append(3.0)
    has_changed.set()
    writer.close()
    restored = checkpoint.Checkpointer(tmp_path, keep_last=1).restore(_state(0))[1]
    assert restored == {"step": 10, "pending": {"loss": [1.0, 2.0]}}


def test_on_a_full_disk_the_last_checkpoint_stays_and_the_next_start_takes_it(tmp_path):
    """No file may grow beyond four kilobytes, which to a writer is like a full disk."""
    _fill(tmp_path, {10: None})
    writer = checkpoint.Checkpointer(tmp_path, keep_last=1)
    writer.restore(_state(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).normal(size=9999).astype(np.float32)  # does not compress
    large = _state(20)._replace(params={"w": jnp.asarray(noise)})
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(checkpoint.WriteError, match=r"step 20 could not be written .*step 10 is intact"):
            writer.save(large, {}, wait=True)
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.Checkpointer(tmp_path, keep_last=1).restore(_state(0))[1] == {"step": 10}


def test_a_failure_in_the_writers_thread_is_raised_at_the_next_step(tmp_path, monkeypatch):
    _fill(tmp_path, {10: None})
    writer = checkpoint.Checkpointer(tmp_path, keep_last=2)
    writer.restore(_state(0))

    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(integrity, "write_manifest", full)
    writer.save(_state(20), {})
    with pytest.raises(checkpoint.WriteError, match=r"step 20 could not .*No space left.*step 10 is intact"):
        for _ in range(1000):
            writer.check()

            time.sleep(0.01)
    writer.close()
    monkeypatch.undo()
    again = checkpoint.Checkpointer(tmp_path, keep_last=2)
    assert again.restore(_state(0))[1] == {"step": 10}
    again.save(_state(20), {"step": 20}, wait=True)
    again.close()
    assert _names(tmp_path) == ["10", "20"]


def test_of_a_write_that_failed_only_the_first_error_is_told(tmp_path, monkeypatch):
    """tensorstore calls Python's hook in a thread for each part that was on its way."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
    for name in ("a", "b"):
        _fill(tmp_path / name, {10: None})
    for words in ("Event loop is closed", "another one"):
        sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(words)))
    assert told == ["another one"]
