"""Orbax checkpoints of the whole run, asynchronous, kept by policy; the only module that knows orbax."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from codir_jax.train.state import TrainState


class Checkpointer:
    """Saves {state, facts} under `directory`, keeps the last `keep`, restores the newest.

    `facts` is a small JSON dict: the best score so far, fingerprints of data and teacher, elapsed time.
    """

    def __init__(self, directory: Path, keep: int):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(Path(directory).resolve(), options=options)

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, facts: dict[str, Any], *, wait: bool = False) -> None:
        """Starts writing in the background; `wait` blocks until it is on disk. The same step twice is written once."""
        step = int(state.step)
        if self._manager.latest_step() != step:
            args = ocp.args.Composite(state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(facts))
            self._manager.save(step, args=args)
        if wait:
            self._manager.wait_until_finished()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest checkpoint, bit-equal, laid out as `like`.

        Args:
          like: a state (or its ShapeDtypeStructs with shardings) of the same structure, shapes and dtypes.

        Raises:
          ValueError: the checkpoint has another structure; it says which directory and what to do.
        """
        step = self._manager.latest_step()
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target), facts=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=args)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"checkpoint {self._manager.directory}/{step} cannot be read ({error}); "
                "it is damaged or of another version: choose another --workdir, or remove that step's folder"
            ) from error
        return restored["state"], restored["facts"]

    def close(self) -> None:
        """Waits for the writer and lets it go; an error in the writer is raised here."""
        self._manager.wait_until_finished()
        self._manager.close()
