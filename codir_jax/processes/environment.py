"""The process environment of a command. Nothing heavy is imported here: it is set before JAX is."""

import os
import sys

from codir_jax.processes.cache_folder import user_cache


def set_defaults() -> None:
    """Compiled programs are kept between runs; libraries keep their advice to themselves. Yours stands if it is set."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(user_cache("compiled")))
    # Small programs too: there are dozens before the first step.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def use_huge_pages() -> None:
    """Starts this command anew with huge pages asked for, which glibc reads only when a process starts; Linux.

    A step's temporary memory goes back to the kernel after each step. In pages of 4 KiB, getting it again was a sixth
    of the CPU time of a MiniLM run (35,000 page faults a step of 32 x 16 tokens; 400 with huge pages).
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
