"""codir_jax: big language models made small, in JAX.

load(folder)                        a finished model as a function: texts in, labels or vectors out
compress(teacher, train, dev, ...)  the whole job: teacher, students, export, report; `text=...` for running text
train(config, workdir)              one stage
evaluate(model)                     scores of a finished model
UserError                           what they raise for input that the caller can correct
"""

__version__ = "0.1.0"
__all__ = ["UserError", "compress", "evaluate", "load", "train"]

# Name -> where it lives. Late, so that `import codir_jax` costs nothing and `codir --help` is quick.
_PLACES = {
    "UserError": "codir_jax.processes.user_error",
    "compress": "codir_jax.jobs.compress",
    "evaluate": "codir_jax.jobs.evaluate",
    "load": "codir_jax.predict.load",
    "train": "codir_jax.jobs.train",
}


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
