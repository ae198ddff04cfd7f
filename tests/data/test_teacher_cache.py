"""The cache of teacher outputs on disk: what comes back, what is never read, damage, a killed run, two runs at once."""

import errno
import fcntl
import json
import multiprocessing
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from codir_jax.data.teacher_cache import Layout, TeacherCache
from codir_jax.processes.user_error import CannotWriteError, UserError

NUM = 11
RNG = np.random.default_rng(0)
WHOLE = {
    "teacher_logits": RNG.normal(size=(NUM, 2)).astype(np.float32),
    "teacher_pooled": RNG.normal(size=(NUM, 3, 5)).astype(np.float32),
}
SHAPES = {"teacher_pooled": (3, 5), "teacher_logits": (2,)}


def make(folder, dtype="float32", **parts):
    return TeacherCache(folder, Layout(NUM, SHAPES, dtype, shard_rows=4), **{"teacher": "t", "layers": [2, 4], **parts})


def compute(shards):
    for rows in shards:
        yield {name: values[rows.start : rows.stop] for name, values in WHOLE.items()}


def never(shards):
    assert not shards
    return ()


@pytest.fixture
def filled(tmp_path):
    cache = make(tmp_path)
    cache.fill(compute)
    return cache


def test_what_comes_back_is_what_was_kept_by_rows_and_whole(filled):
    rows = filled.read()
    assert list(rows) == ["teacher_logits", "teacher_pooled"]
    ids = np.array([10, 0, 3, 4, 4, 7])
    for name, expected in WHOLE.items():
        assert len(rows[name]) == NUM and rows[name].shape == expected.shape and rows[name].dtype == np.float32
        np.testing.assert_array_equal(rows[name][ids], expected[ids])
        np.testing.assert_array_equal(np.asarray(rows[name]), expected)
    assert np.asarray(rows["teacher_logits"], np.float64).dtype == np.float64


def test_a_shard_is_the_rows_of_every_array_and_a_checksum(filled):
    import zlib

    content = (filled.folder / "shard-00002.bin").read_bytes()
    expected = WHOLE["teacher_logits"][8:].tobytes() + WHOLE["teacher_pooled"][8:].tobytes()
    assert content == expected + zlib.crc32(expected).to_bytes(4, "little")
    assert filled.layout.num_bytes == NUM * 17 * 4


def test_bfloat16_takes_half_and_is_the_nearest(tmp_path):
    cache = make(tmp_path, "bfloat16")
    cache.fill(compute)
    pooled = cache.read()["teacher_pooled"]
    assert cache.layout.num_bytes == NUM * 17 * 2 and pooled.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(np.asarray(pooled), WHOLE["teacher_pooled"].astype(ml_dtypes.bfloat16))


def test_a_complete_cache_is_not_computed_again(filled, tmp_path):
    make(tmp_path).fill(never)
    assert filled.missing() == [] and filled.missing_bytes() == 0


@pytest.mark.parametrize("change", [{"teacher": "u"}, {"layers": [2, 6]}, {"pooling": "first"}, {"dtype": "bfloat16"}])
def test_another_fingerprint_never_reads_it(filled, tmp_path, change):
    other = make(tmp_path, **change)
    assert other.folder != filled.folder and other.missing() == [0, 1, 2]
    assert other.missing_bytes() == other.layout.num_bytes


def test_an_older_format_is_never_read(filled, tmp_path, monkeypatch):
    from codir_jax.data import teacher_cache

    monkeypatch.setattr(teacher_cache, "FORMAT", teacher_cache.FORMAT + 1)
    assert make(tmp_path).missing() == [0, 1, 2]


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[17] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _flip_a_bit])
def test_a_damaged_shard_is_told_and_computed_again(filled, damage):
    damage(filled.folder / "shard-00001.bin")
    told, computed = [], []

    def again(shards):
        computed.extend(shards)
        return compute(shards)

    filled.fill(again, tell=told.append)
    assert computed == [range(4, 8)]
    assert len(told) == 1 and "shard-00001.bin is damaged" in told[0]
    np.testing.assert_array_equal(np.asarray(filled.read()["teacher_pooled"]), WHOLE["teacher_pooled"])


def test_a_killed_pass_goes_on_from_the_finished_shards(tmp_path):
    cache = make(tmp_path)

    def killed(shards):
        yield from list(compute(shards))[:2]
        (cache.folder / "shard-00002.bin.0.part").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fill(killed)
    assert cache.missing() == [2]
    assert cache.missing_bytes() == 3 * 17 * 4
    cache.fill(compute)
    assert cache.missing() == []
    assert not list(cache.folder.glob("*.part"))
    assert json.loads((cache.folder / "meta.json").read_text())["layers"] == [2, 4]


def test_an_array_of_another_shape_is_refused(tmp_path):
    wrong = {"teacher_logits": np.zeros((4, 3), np.float32), "teacher_pooled": np.zeros((4, 3, 5), np.float32)}
    with pytest.raises(ValueError, match=r"expected teacher_logits \(4, 2\), got \(4, 3\)"):
        make(tmp_path).write(0, wrong)


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError, match=r"teacher\.cache=off"):
        make(tmp_path / "file").fill(compute)


def test_a_link_in_the_cache_is_not_written_through(tmp_path):
    cache, victim = make(tmp_path), tmp_path / "victim"
    victim.write_text("mine")
    cache.folder.mkdir()
    (cache.folder / "lock").symlink_to(victim)
    with pytest.raises(UserError, match="lock is a link to"):
        cache.fill(compute)
    assert victim.read_text() == "mine"


def _slow_run(folder, log):
    def slowly(shards):
        for rows, arrays in zip(shards, compute(shards), strict=True):
            with open(log, "a") as file:
                file.write(f"{rows.start}\n")
            time.sleep(0.05)
            yield arrays

    make(folder).fill(slowly)


def test_two_runs_at_once_share_one_pass(tmp_path):
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=_slow_run, args=(tmp_path, tmp_path / "log")) for _ in range(2)]
    for process in runs:
        process.start()
    for process in runs:
        process.join()
    assert [process.exitcode for process in runs] == [0, 0]
    assert (tmp_path / "log").read_text().split() == ["0", "4", "8"]
    np.testing.assert_array_equal(np.asarray(make(tmp_path).read()["teacher_pooled"]), WHOLE["teacher_pooled"])


def test_runs_that_do_not_wait_for_each_other_do_no_harm(tmp_path):
    one, two = make(tmp_path), make(tmp_path)

    def meanwhile(shards):
        two.fill(compute, alone=False)
        return compute(shards)

    one.fill(meanwhile, alone=False)
    assert one.missing() == []


def _paused_run(folder, alone, name, paused, go_on):
    """Fills the cache; between writing the file `name` aside and renaming it, it waits for another run."""
    rename = Path.replace

    def replace(self, target):
        if target.name == name and not paused.is_set():
            paused.set()
            go_on.wait(1)  # a run that waits for our lock never comes to its end
        return rename(self, target)

    Path.replace = replace
    make(folder).fill(compute, alone=alone)


@pytest.mark.parametrize(
    ("alone", "name"),
    [(True, "meta.json"), (False, "meta.json"), (False, "shard-00001.bin"), (True, "shard-00001.bin")],
)
def test_a_run_never_removes_what_another_one_is_writing(tmp_path, alone, name):
    context = multiprocessing.get_context("fork")
    paused, go_on = context.Event(), context.Event()
    other = context.Process(target=_paused_run, args=(tmp_path, alone, name, paused, go_on))
    other.start()
    assert paused.wait(20)
    make(tmp_path).fill(compute)
    go_on.set()
    other.join()
    assert other.exitcode == 0
    np.testing.assert_array_equal(np.asarray(make(tmp_path).read()["teacher_pooled"]), WHOLE["teacher_pooled"])
    assert {path.name for path in make(tmp_path).folder.iterdir()} == {
        "lock",
        "meta.json",
        *(f"shard-{shard:05d}.bin" for shard in range(3)),
    }


def test_a_file_that_another_host_removes_before_its_rename_is_written_again(tmp_path, monkeypatch):
    rename, removed = Path.replace, []

    def replace(self, target):
        if target.name not in removed:  # once each
            removed.append(target.name)
            self.unlink()
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    make(tmp_path).fill(compute)
    assert len(removed) == 4 and make(tmp_path).missing() == []


def test_a_file_aside_whose_owner_cannot_be_known_stays(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks")

    cache = make(tmp_path)
    cache.fill(compute)
    (cache.folder / "shard-00002.bin.0.part").write_bytes(b"half")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    cache.fill(compute)
    assert (cache.folder / "shard-00002.bin.0.part").exists()


def test_a_damaged_shard_is_there_for_its_readers_until_it_is_replaced(filled):
    path = filled.folder / "shard-00001.bin"
    _flip_a_bit(path)

    def again(shards):
        assert path.exists()
        return compute(shards)

    filled.fill(again, tell=lambda _: None)
    assert filled.missing() == []
