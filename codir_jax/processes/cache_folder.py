"""Where things that can be made again are kept between runs."""

import os
from pathlib import Path


def user_cache(kind: str) -> Path:
    """Returns the user's cache folder for `kind`: $XDG_CACHE_HOME or ~/.cache, then codir_jax/KIND."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "codir_jax" / kind
