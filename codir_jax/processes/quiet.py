"""What other libraries say that is of no use to who called us is left out."""

import contextlib
import logging
import os
from collections.abc import Iterator


@contextlib.contextmanager
def loggers(name: str) -> Iterator[None]:
    """Leaves out what a logger, and those below it, say below an error; "": all of them."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def advice() -> Iterator[None]:
    """Leaves out what transformers advises while it is imported: that there is no PyTorch, which we do not need."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(name)
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
