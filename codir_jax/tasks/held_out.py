"""What tasks of running text share: held-out splits, and a model that is judged by itself on them."""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from codir_jax.objectives.contract import Setting
from codir_jax.processes.user_error import UserError
from codir_jax.tasks.contract import Examined


class HeldOut:
    """A part of a `tasks.contract.Task` that has `_scores(feed, module, params, layout, split)`."""

    config: ConfigDict
    _scores: Callable[..., dict[str, float]]

    def is_judged_once(self, split: str) -> bool:
        """The test text chooses no model."""
        return split == "test"

    def require_split(self, split: str) -> None:
        """Refuses a split that a text cannot have."""
        if split not in ("dev", "test"):
            raise UserError(f"--split={split}; this model is judged on held-out text, --split=dev or test")
        has_test = self.config.data.test_sources.strip() or self.config.data.test_percent > 0
        if split == "test" and not has_test:
            raise UserError("--split=test, but data.test_sources is empty and data.test_percent is 0; set one of them")

    def examine(self, feed: Any, module, params, layout, split: str = "dev") -> Examined:
        """Scores of a split; the reference is the weights on the devices."""
        self.require_split(split)
        return Examined(self._scores(feed, module, params, layout, split), params)

    def judge(self, feed: Any, setting: Setting, objective, reference, layout) -> Callable[..., dict]:
        """Scores on dev."""
        del objective, reference

        def judge(params, frozen) -> dict[str, float]:
            del frozen
            return self._scores(feed, setting.student, params["student"], layout, "dev")

        return judge
