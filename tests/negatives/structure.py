"""What a compiled program makes, read from its text."""

import math
import re

_INSTRUCTION = re.compile(r" = (\(.*?\)|\S+) ([\w-]+)\(")
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")
# These pass on what is there. A loop passes on its carry; what it computes stands in its body.
_PASSES_ON = {"parameter", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call"}


def largest_made(compiled) -> int:
    """Elements of the largest array that any instruction of `jax.stages.Compiled` gives, fused ones too.

    Arguments of the program do not count.
    """
    sizes = [0]
    for line in compiled.as_text().splitlines():
        found = _INSTRUCTION.search(line)
        if found and found[2] not in _PASSES_ON:
            sizes += [math.prod(map(int, filter(None, s.split(",")))) for s in _SHAPE.findall(found[1])]
    assert len(sizes) > 1, "no instruction was recognised"
    return max(sizes)
