"""`codir` that writes to the file $SOAK_PHASES when it enters (+) and leaves (-) a phase the soak wants to know of."""

import contextlib
import functools
import os
import sys

from codir_jax import main
from codir_jax.data import teacher_cache
from codir_jax.data.shards import folder
from codir_jax.stage import results
from codir_jax.tasks.classification import Classification
from codir_jax.tasks.masked_lm import MaskedLanguageModel
from codir_jax.training import checkpoint, integrity
from codir_jax.training.metrics import MetricBuffer


def _mark(text: str) -> None:
    os.write(_file, f"{text}\n".encode())


@contextlib.contextmanager
def _phase(name: str):
    _mark(f"+{name}")
    yield
    _mark(f"-{name}")


def _in_phase(owner, method: str, name: str) -> None:
    original = getattr(owner, method)

    @functools.wraps(original)
    def marked(*args, **options):
        with _phase(name):
            return original(*args, **options)

    setattr(owner, method, marked)


def watch(path: str) -> None:
    """Marks the phases of this process in a file from now on."""
    global _file
    _file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _in_phase(Classification, "examine", "evaluation")
    _in_phase(MaskedLanguageModel, "examine", "evaluation")
    _in_phase(teacher_cache.TeacherCache, "fill", "cache")
    _in_phase(folder, "write", "tokens")
    _in_phase(results, "save_best", "best")
    _in_phase(checkpoint.Checkpointer, "restore", "restore")
    # A write begins in the loop's thread and ends, old checkpoints deleted, in the writer's.
    _in_phase(checkpoint._Manager, "_finalize", "finalize")
    _in_phase(integrity, "write_manifest", "seal")
    save, finalize, append = checkpoint._Manager.save, checkpoint._Manager._finalize, MetricBuffer.append

    def marked_save(*args, **options):
        _mark("+write")
        return save(*args, **options)

    def marked_finalize(*args, **options):
        finalize(*args, **options)
        _mark("-write")

    def marked_append(self, step, metrics):
        _mark(f"step {step}")
        return append(self, step, metrics)

    checkpoint._Manager.save, checkpoint._Manager._finalize = marked_save, marked_finalize
    MetricBuffer.append = marked_append


if __name__ == "__main__":
    watch(os.environ["SOAK_PHASES"])
    sys.exit(main.main(sys.argv[1:]))
