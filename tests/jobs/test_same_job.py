"""A finished stage and its data: running text is read to tell whether it changed."""

import json
import types

import pytest

from codir_jax.jobs import same_job
from codir_jax.processes.user_error import UserError


@pytest.mark.parametrize("now", ["as before", "another"])
def test_text_that_is_known_once_it_is_opened_is_compared_then(tmp_path, now):
    found = {"dev": {}, "best_step": 1, "metrics": [], "data_fingerprint": "as before"}
    (tmp_path / "results.json").write_text(json.dumps(found))
    task = types.SimpleNamespace(fingerprint="", open=lambda: setattr(task, "fingerprint", now))
    if now == "another":
        with pytest.raises(UserError, match="the data changed since"):
            same_job.check_data(tmp_path, task)
    else:
        same_job.check_data(tmp_path, task)


def test_a_stage_that_is_not_finished_opens_nothing(tmp_path):
    same_job.check_data(tmp_path, types.SimpleNamespace(fingerprint="", open=lambda: pytest.fail("opened")))
