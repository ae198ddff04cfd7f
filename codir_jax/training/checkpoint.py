"""Orbax checkpoints of the whole run, asynchronous, kept by policy; the only module that knows orbax."""

import copy
import functools
import logging
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from codir_jax.processes import distributed
from codir_jax.processes.user_error import CannotWriteError, UserError
from codir_jax.training import integrity
from codir_jax.training.state import TrainState


class WriteError(CannotWriteError):
    """A checkpoint could not be written; the message says which, why, and what is left."""


class Checkpointer:
    """Saves {state, facts} under `directory` and restores the newest whole checkpoint. All processes call it alike.

    `facts` is a small JSON dict: the best score so far, fingerprints of data and teacher, elapsed time.

    Args:
      directory: on a disk that all processes share.
      keep_last: newest checkpoints that stay.
      keep_every_steps: checkpoints at multiples of it stay for good; 0: none.
      keep_best: checkpoints with the highest scores that stay.
      tell: prints a line.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_last: int,
        keep_every_steps: int = 0,
        keep_best: int = 0,
        tell: Callable[[str], None] = print,
    ):
        self._directory, self._tell = Path(directory).resolve(), tell
        self._policy = [checkpoint_managers.LatestN(keep_last)]
        if keep_every_steps:
            self._policy.append(checkpoint_managers.EveryNSteps(keep_every_steps))
        if keep_best:
            best = {"n": keep_best, "keep_checkpoints_without_metrics": False}
            self._policy.append(checkpoint_managers.BestN(get_metric_fn=_score, **best))
        self._writing: int | None = None

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest whole checkpoint, bit-equal, placed as `like`; None where there is none at all.

        Damaged ones that are newer are told, with the reason, and renamed to STEP.damaged; nothing is deleted.

        Args:
          like: a state (or its ShapeDtypeStructs with shardings) of the same structure, shapes and dtypes.

        Raises:
          UserError: no checkpoint is whole, or it has another structure; it says which and what to do.
        """
        damaged: dict[int, str] = {}
        for step in distributed.first_decides(self._steps):
            reason = distributed.first_decides(functools.partial(integrity.damage, self._folder(step)))
            if reason is None:
                break
            damaged[step] = reason
        else:
            if not damaged:
                return None
            listed = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
            raise UserError(
                f"no checkpoint in {self._directory} is whole ({listed}); restore one from a copy, choose another "
                "--workdir, or remove that folder to start from the beginning"
            )
        distributed.first_decides(functools.partial(self._set_aside, damaged, step))
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target), facts=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=args)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(
                f"checkpoint {self._folder(step)} is whole but cannot be read ({error}): it is of another version; "
                "choose another --workdir, or remove that folder"
            ) from error
        return restored["state"], restored["facts"]

    def save(self, state: TrainState, facts: dict[str, Any], *, score: float | None = None, wait: bool = False) -> None:
        """Starts writing in the background; the same step twice is written once.

        Args:
          state, facts: of a step.
          score: of an evaluation at this step, for `keep_best`.
          wait: block until it is on disk.

        Raises:
          WriteError: this one cannot be written, or the one before it could not.
        """
        step = int(state.step)
        self.wait()
        if self._manager.latest_step() != step:
            # A copy: facts are written in the background, while the caller's go on to change.
            facts_args = ocp.args.JsonSave(copy.deepcopy(facts))
            args = ocp.args.Composite(state=ocp.args.StandardSave(state), facts=facts_args)
            metrics = None if score is None else {"score": score}
            try:
                self._writing = step
                self._manager.save(step, args=args, metrics=metrics, force=True)
            except (OSError, ValueError, RuntimeError) as error:
                raise self._failed(error) from error
        if wait:
            self.wait()

    def check(self) -> None:
        """Raises WriteError if the last checkpoint could not be written; costs nothing, for after every step."""
        if self._writing is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Blocks until the last checkpoint is on disk; raises like `check`."""
        if self._writing is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error
        self._writing = None

    def close(self) -> None:
        """Lets the writer finish and go; what went wrong in it is told, not raised: `wait` before is for that."""
        try:
            self.wait()
            self._manager.close()
        except Exception as error:
            self._tell(str(error))

    @functools.cached_property
    def _manager(self) -> ocp.CheckpointManager:
        # Orbax logs the stack of an error in its writer; the run tells the error in a sentence.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        _leave_out_echoes()
        if not distributed.is_several():
            # By default every replica writes a slice of each array, which one process has no use for: it would compile
            # a program for each shape and device, a hundred of them before the first checkpoint on 8 devices.
            whole = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
            ocp.type_handlers.register_type_handler(jax.Array, whole, override=True)
        distributed.first_decides(self._remove_unfinished)
        options = ocp.CheckpointManagerOptions(
            create=True,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(self._policy),
            best_fn=_score,
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        return _Manager(self._directory, options=options)

    def _remove_unfinished(self) -> None:
        """What a run left that was stopped in writing; of one that failed in this process threads may write still."""
        deadline = time.monotonic() + 10
        while left := list(self._directory.glob("*.orbax-checkpoint-tmp*")):
            for folder in left:
                shutil.rmtree(folder, ignore_errors=True)
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def _seal(self) -> None:
        """In the writer's thread, when all files of a checkpoint are there and before it gets its name."""
        if distributed.process_id() == 0:
            (folder,) = self._directory.glob(f"{self._writing}.orbax-checkpoint-tmp*")
            integrity.write_manifest(folder)

    def _steps(self) -> list[int]:
        """Steps with a folder, newest first."""
        return sorted((int(p.name) for p in self._directory.glob("*") if p.name.isdigit()), reverse=True)

    def _folder(self, step: int) -> Path:
        return self._directory / str(step)

    def _set_aside(self, damaged: dict[int, str], whole: int) -> None:
        for step, reason in damaged.items():
            aside = self._folder(step).with_name(f"{step}.damaged")
            number = 1
            while aside.exists():
                number += 1
                aside = aside.with_name(f"{step}.damaged{number}")
            self._folder(step).rename(aside)
            self._tell(
                f"checkpoint of step {step} is damaged: {reason}; set aside as {aside}, using that of step {whole}"
            )

    def _failed(self, error: BaseException) -> WriteError:
        step, self._writing = self._writing, None
        whole = next((s for s in self._steps() if (self._folder(s) / integrity.MANIFEST).exists() and s != step), None)
        left = "no earlier one exists" if whole is None else f"that of step {whole} is intact"
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "No space left on device" in told:  # tensorstore tells the path of every file as well
            told = "No space left on device"
        return WriteError(f"checkpoint of step {step} could not be written to {self._directory} ({told}); {left}")


class _Manager(ocp.CheckpointManager):
    """Does not ask JAX's preemption service for a step of its own: the loop does, once after every step."""

    def reached_preemption(self, step: int) -> bool:
        return False


def _leave_out_echoes() -> None:
    """After the first part of a checkpoint that could not be written, tensorstore has a traceback for every other one.

    Its threads wake an event loop that ended with the first error, and what comes of it can be raised to nobody.
    """
    before = sys.unraisablehook
    if getattr(before, "leaves_out_echoes", False):
        return

    def told(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    told.leaves_out_echoes = True
    sys.unraisablehook = told


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
