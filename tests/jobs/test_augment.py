"""A job with copies of its train texts: made of train alone, once, after all else was checked; refusals."""

import json
from pathlib import Path

import jax
import pytest

from codir_jax.convert import pretrained, save
from codir_jax.data.tokenizer import load_tokenizer, save_tokenizer
from codir_jax.jobs import augment
from codir_jax.jobs.compress import compress
from codir_jax.jobs.train import train
from codir_jax.models.heads import build_model, init_params
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox

TINY = {
    "overrides": [("train.total_steps", "2"), ("data.eval_batch_size", "8"), ("teacher.allow_weak", "true")],
    "teacher_overrides": [("train.total_steps", "2")],
}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Arguments of a job: a tiny encoder, a masked LM of the same words, and a table without a dev file."""
    folder = tmp_path_factory.mktemp("given")
    small = [("data.demo_num_train", "64"), ("data.demo_num_dev", "16"), ("train.total_steps", "1")]
    train("configs/codir/finetune_teacher.py:tiny", folder / "base", small)
    encoder = folder / "base" / "best"
    config = pretrained.load_pretrained(encoder).config
    params = jax.device_get(unbox(init_params(build_model(config, "masked_lm"), jax.random.key(0))))
    save.save_pretrained(folder / "mlm", config, params, head="masked_lm")
    save_tokenizer(load_tokenizer(str(encoder)), folder / "mlm")
    rows = "".join(f"the cats sleep {n}\tgood\nthe dog sees the cats {n + 1}\tbad\n" for n in range(0, 40, 2))
    (folder / "train.tsv").write_text(f"review\tlabel\n{rows}", encoding="utf-8")
    return {"teacher": str(encoder), "train": str(folder / "train.tsv"), "augment_by": str(folder / "mlm"), **TINY}


def test_the_copies_are_of_the_train_rows_and_are_made_once(given, tmp_path, monkeypatch):
    arguments = {**given, "output": str(tmp_path / "job"), "augment": 2}
    results = compress(**arguments)
    rows = [json.loads(line) for line in (tmp_path / "job" / "augmented.jsonl").open(encoding="utf-8")]
    trained, in_dev = (
        {json.loads(line)["review"] for line in next((tmp_path / "job" / "data").glob(f"{split}-*")).open()}
        for split in ("train", "dev")
    )
    assert len(trained) == 36 and len(in_dev) == 4 and rows and set(rows[0]) == {"review"}
    copies = {row["review"] for row in rows}
    numbers = [{text.split()[-1] for text in texts} for texts in (copies, trained, in_dev)]  # no word, so they stay
    assert numbers[0] == numbers[1] and not numbers[0] & numbers[2]
    assert not copies & trained and 36 < len(rows) <= 72
    student = json.loads((tmp_path / "job" / "l2" / "results.json").read_text())
    assert student["num_examples"]["train"] == 36 + len(rows)
    teacher = json.loads((tmp_path / "job" / "teacher" / "results.json").read_text())
    assert teacher["num_examples"]["train"] == 36  # a text without a label teaches it nothing
    monkeypatch.setattr(augment, "augment", lambda *_, **__: pytest.fail("the copies were made again"))
    assert compress(**arguments) == results
    with pytest.raises(UserError, match="made of other texts, or in another way"):
        compress(**{**arguments, "augment": 3})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"augment_by": ""}, "--augment: .* has no trained masked lm head .*; name a masked LM: --augment_by=FOLDER"),
        ({"unlabelled": "more.txt"}, "--augment and --unlabelled both give texts without labels"),
        ({"augment": 1001}, "--copies=1001: expected 1 to 1,000"),
        ({"train": "", "demo": True}, "--augment=2 is of your own labelled texts"),
        ({"layers": 99}, "99"),
    ],
)
def test_what_cannot_be_is_refused_before_a_copy_is_made(changes, told, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("more.txt").write_text("the cats\n", encoding="utf-8")
    monkeypatch.setattr(augment, "augment", lambda *_, **__: pytest.fail("copies were made"))
    with pytest.raises(UserError, match=told):
        compress(**{**given, "augment": 2, "output": "job", **changes})
