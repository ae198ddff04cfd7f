"""The claim on a folder: whatever is not ours is refused by name, and nothing of it changes."""

import contextlib
import os

import pytest

from codir_jax.main import main
from codir_jax.processes import claims
from codir_jax.processes.user_error import CannotWriteError, UserError


def _contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def mine(tmp_path):
    """A folder of the user's: a model, a thesis, and names that runs use."""
    folder = tmp_path / "mine"
    (folder / "best").mkdir(parents=True)
    for name in ("config.json", "README.md", "lock", "best/thesis.tex"):
        (folder / name).write_text(f"my {name}")
    return folder


VERBS = {
    "train": "train --config=configs/codir/finetune_teacher.py:tiny --workdir={}",
    "compress": "compress --demo --output={}",
    "export": "export --model=none --output={}",
    "tokenizer": "tokenizer --sources=none --output={}",
    "weigh": "weigh --model=none --train=a.tsv --dev=b.tsv --domain_column=shop --output={}",
    "sweep": "sweep --tasks=rte --output={} --arm=a --arm=b",
    "bench": "bench --output={}",
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_refuses_a_folder_of_the_users_and_leaves_it_as_it_was(verb, mine, capsys):
    before = _contents(mine)
    assert main([word.format(mine) for word in VERBS[verb].split()]) == 2
    told = capsys.readouterr().err
    assert f"={mine} is not empty" in told and "README.md, best, config.json, lock. Nothing was written" in told
    assert f"touch {mine}/.codir-" in told  # a lock may be one of ours
    assert _contents(mine) == before


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "bench"])
def test_a_verb_refuses_an_empty_name(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([word.format("") for word in VERBS[verb].split()]) == 2
    assert " is empty; name a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_is_ours_from_its_claim_on_and_of_one_kind(tmp_path):
    folder = tmp_path / "a" / "b"
    claims.check(folder, claims.RUN, "--workdir")
    assert not folder.exists()
    claims.claim(folder, claims.RUN, "--workdir")
    (folder / "config.json").write_text("{}")
    claims.claim(folder, claims.RUN, "--workdir")
    with pytest.raises(UserError, match=r"--output=.* holds a run of `codir train`, not an exported model"):
        claims.claim(folder, claims.EXPORT, "--output")
    assert sorted(path.name for path in folder.iterdir()) == [".codir-run", "config.json"]


def test_a_copy_that_lost_its_marker_is_told_what_to_do(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"an empty folder$"):
        claims.check(tmp_path, claims.RUN, "--workdir")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserError, match=r"`touch .*/\.codir-run`$"):
        claims.check(tmp_path, claims.RUN, "--workdir")


def test_an_empty_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "lost+found").mkdir()  # the top of a disk
    claims.claim(tmp_path, claims.RUN, "--workdir")


def test_a_link_to_a_file_in_a_folder_of_ours_is_refused_and_one_to_a_folder_is_followed(tmp_path):
    folder, victim = tmp_path / "run", tmp_path / "victim"
    claims.claim(folder, claims.RUN, "--workdir")
    victim.write_text("mine")
    (tmp_path / "disk").mkdir()
    (folder / "checkpoints").symlink_to(tmp_path / "disk")
    claims.claim(folder, claims.RUN, "--workdir")
    for name in ("lock", "metrics.jsonl", "config.json"):
        (folder / name).symlink_to(victim)
        with pytest.raises(UserError, match=rf"{name} is a link to {victim}.*remove the link"):
            claims.claim(folder, claims.RUN, "--workdir")
        (folder / name).unlink()
    (folder / "log.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"log\.txt is a link"):
        claims.check(folder, claims.RUN, "--workdir")


def test_a_marker_that_is_a_link_is_no_marker(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".codir-run").symlink_to(victim)
    with pytest.raises(UserError, match=r"\.codir-run is a link"):
        claims.claim(tmp_path / "run", claims.RUN, "--workdir")


@pytest.mark.parametrize("name", ["file", "file/below", "dangling", "n" * 300, "nul\0"])
def test_what_can_be_no_folder_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="--output="):
        claims.claim(f"{tmp_path}/{name}", claims.EXPORT, "--output")


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with contextlib.suppress(FileNotFoundError), pytest.raises(CannotWriteError, match=r"No space left.*make room"):
        claims.claim(tmp_path / "run", claims.RUN, "--workdir")
