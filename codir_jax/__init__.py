"""codir_jax: compress BERT and RoBERTa by contrastive distillation on intermediate representations (CoDIR), in JAX."""

__version__ = "0.1.0"
__all__ = ["compress", "load"]


def __getattr__(name: str):
    # Late, so that `import codir_jax` costs nothing and `codir --help` is quick.
    if name == "compress":
        from codir_jax.jobs.compress import compress

        return compress
    if name == "load":
        from codir_jax.predict.classifier import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
