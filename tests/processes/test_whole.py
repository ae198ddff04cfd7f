"""Files and folders that appear whole: with an error, or a kill, what was there before is there still."""

import errno
import os
import subprocess
import sys

import pytest

from codir_jax.processes import whole
from codir_jax.processes.user_error import CannotWriteError, UserError


class Torn(Exception):
    pass


def test_a_file_is_replaced_when_it_is_whole_and_not_before(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("old")
    with pytest.raises(Torn), whole.file(str(path)) as file:
        file.write("new")
        file.flush()
        raise Torn
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["answers.jsonl"]
    with whole.file(str(path)) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["answers.jsonl"]


def test_the_mode_is_that_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    whole.write_text(tmp_path / "whole", "")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_is_followed_where_the_user_named_it_and_replaced_where_it_lies_in_our_folder(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with whole.file(str(tmp_path / "link")) as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"
    whole.write_text(tmp_path / "link", "newer")
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


def test_what_is_no_file_on_a_disk_is_written_as_it_comes():
    with whole.file("/dev/null") as file:
        file.write("x")
    assert not os.path.isfile("/dev/null")


def test_an_input_is_refused_under_every_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.tsv").write_text("sentence\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    os.link("texts.tsv", "hard")
    os.symlink("texts.tsv", "soft")
    os.symlink("model", "alias")
    inputs = ["-", "bert-base-uncased", "texts.tsv", "model"]
    for name in ("texts.tsv", "./texts.tsv", f"{tmp_path}/model/../texts.tsv", "hard", "soft", "alias/config.json"):
        with pytest.raises(UserError, match="read as an input"):
            whole.check_output(name, inputs=inputs)
    whole.check_output("model/answers.jsonl", inputs=inputs)
    whole.check_output("-", inputs=inputs)


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "is empty"), ("folder", "is a folder"), ("none/x", "no folder none"), ("loop", "loop"), ("a\0", "cannot")],
)
def test_what_can_be_no_output_is_refused(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=message):
        whole.check_output(name)


def test_a_folder_is_replaced_whole(tmp_path):
    best = tmp_path / "best"
    for text in ("old", "new"):
        with whole.folder(best) as place:
            (place / "model").write_text(text)
    assert (best / "model").read_text() == "new" and os.listdir(tmp_path) == ["best"]
    with pytest.raises(Torn), whole.folder(best) as place:
        (place / "model").write_text("newest")
        raise Torn
    assert (best / "model").read_text() == "new" and os.listdir(tmp_path) == ["best"]


def test_a_folder_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis").write_text("mine")
    (tmp_path / "best").symlink_to("theirs")
    with whole.folder(tmp_path / "best") as place:
        (place / "model").write_text("new")
    assert sorted(os.listdir(tmp_path)) == ["best", "theirs"] and os.listdir(tmp_path / "theirs") == ["thesis"]


@pytest.mark.parametrize("moment", ["writing", "moved away"])
def test_what_a_killed_process_left_aside_goes_and_what_it_moved_away_comes_back(moment, tmp_path):
    script = """
import os, sys
from pathlib import Path
from codir_jax.processes import whole
best, moment = Path(sys.argv[1]), sys.argv[2]
with whole.folder(best) as place:
    (place / "model").write_text("old")
rename = Path.rename
def killed(self, target):
    rename(self, target)
    os._exit(9)
if moment == "moved away":
    Path.rename = killed
with whole.folder(best) as place:
    (place / "model").write_text("new")
    if moment == "writing":
        os._exit(9)
"""
    best = tmp_path / "best"
    assert subprocess.run([sys.executable, "-c", script, best, moment]).returncode == 9
    assert len(os.listdir(tmp_path)) == 2
    (tmp_path / ".hidden.part").write_text("the user's")
    whole.clean(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden.part", "best"] and (best / "model").read_text() == "old"


def test_a_full_disk_names_the_file_whichever_library_met_it(tmp_path):
    for error in (OSError(28, "No space left on device"), RuntimeError("I/O error: No space left on device (os 28)")):
        with pytest.raises(CannotWriteError, match=r"answers\.jsonl cannot be written .*No space left"):  # noqa: SIM117
            with whole.file(str(tmp_path / "answers.jsonl")):
                raise error
    assert not os.listdir(tmp_path)


def test_files_take_their_places_together_and_nothing_moves_before_all_are_whole(tmp_path):
    for name in ("config.json", "old.bin", "mine.txt"):
        (tmp_path / name).write_text("old")
    with pytest.raises(CannotWriteError), whole.files_into(tmp_path, last="config.json", stale=["old.bin"]) as aside:
        (aside / "config.json").write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("config.json", "old.bin", "mine.txt"), "old"
    )
    moved, replace = [], os.replace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            os, "replace", lambda a, b: (moved.append((b.name, (tmp_path / "config.json").exists())), replace(a, b))
        )
        with whole.files_into(tmp_path, last="config.json", stale=["old.bin", "a.bin"]) as aside:
            for name in ("config.json", "a.bin", "inner/z.bin"):
                (aside / name).parent.mkdir(exist_ok=True)
                (aside / name).write_text("new")
    assert moved == [("a.bin", False), ("z.bin", False), ("config.json", False)]
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"config.json", "a.bin", "inner/z.bin", "mine.txt"}
