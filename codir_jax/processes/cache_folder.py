"""Where things that can be made again are kept between runs."""

import os
from pathlib import Path


def cache_folder(kind: str, given: str = "") -> Path:
    """The folder for things of a kind: the one that the user names, or else CACHE/codir_jax/KIND, where CACHE is
    $XDG_CACHE_HOME or ~/.cache. All processes of a run must see it."""
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "codir_jax" / kind
