"""What a compiled program sends between devices: the collectives in its optimised HLO text, with their bytes."""

import dataclasses
import math
import re
from collections.abc import Iterable

from codir_jax.sharding import hlo

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_BYTES = {"pred": 1, "c64": 8, "c128": 16, "s4": 0.5, "u4": 0.5, "s2": 0.25, "u2": 0.25}
# name = SHAPE all-reduce(...; SHAPE has no "=", so that an op_name in another line's metadata is no match.
_LINE = re.compile(rf"^\s*(?:ROOT )?%?[\w.\-]+ = ([^=]*?) ({'|'.join(KINDS)})(-start)?\(", re.MULTILINE)
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_COMMENT = re.compile(r"/\*.*?\*/")  # /*index=5*/ in long tuples
_GROUP_LIST = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_GROUP_IOTA = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_GROUP_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\([^)]*\)\S*)? *\{([^}]*)\}")
_PARTITIONS = re.compile(r"num_partitions=(\d+)")
_CHANNEL = re.compile(r", channel_id=(\d+)")
# What a TPU makes of a reduce-scatter: a computation of an all-reduce, of which each device takes a slice.
_SLICED = re.compile(r"^%all-reduce-scatter[\w.]* \(.*\) -> (.*) \{$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective instruction.

    Attributes:
      kind: of KINDS.
      shapes: (dtype, dimensions) of each array it returns on a device; several where XLA joined small ones.
      num_bytes: of its larger side on one device: what an all-gather returns, what a reduce-scatter takes.
      group: devices that take part.
      times: that it runs in a step, where the turns of the loop around it are known.
    """

    kind: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    num_bytes: int
    group: int
    times: int = 1

    @property
    def sent_bytes(self) -> float:
        """Bytes that a device sends in a step: see `sent_bytes`."""
        return self.times * sent_bytes(self.kind, self.num_bytes, self.group)


def sent_bytes(kind: str, num_bytes: float, group: int) -> float:
    """Bytes that a device sends in a ring: all but its own part, an all-reduce twice, a permutation everything once.

    Args:
      kind: of KINDS. num_bytes: of the larger side on one device. group: devices that take part.
    """
    if kind == "collective-permute":
        return num_bytes
    return (2 if kind == "all-reduce" else 1) * num_bytes * (group - 1) / group


def parse(hlo_text: str) -> list[Collective]:
    """The collectives of a program, in the order of its text.

    One inside a loop is listed once, with the number of its turns. An asynchronous pair (-start, -done) is one, and so
    are all lines of one channel: a TPU program repeats an asynchronous all-gather in every fusion that it overlaps.
    An all-reduce of which a TPU program keeps a slice in the same fusion is a reduce-scatter.

    Args:
      hlo_text: `compiled.as_text()` of a `jax.stages.Compiled`.
    """
    hlo_text = _COMMENT.sub("", hlo_text)
    partitions = _PARTITIONS.search(hlo_text)
    num_partitions = int(partitions.group(1)) if partitions else 1
    sliced = {hlo_text.find("\n}", one.end()): one for one in _SLICED.finditer(hlo_text)}  # end -> beginning
    times, found, channels = hlo.executions(hlo_text), [], {}
    for match in _LINE.finditer(hlo_text):
        shape_text, kind, is_start = match.groups()
        line_end = hlo_text.find("\n", match.end())
        rest = hlo_text[match.end() : line_end if line_end >= 0 else None]
        shapes = _shapes(shape_text)
        around = [one for end, one in sliced.items() if one.end() < match.start() < end]
        if not around and (channel := _CHANNEL.search(rest)):
            # In one computation they differ: what jax writes itself (shard_map) may share a channel. So do slices that
            # a TPU's compiler has joined, layer by layer with the same shapes: each is run.
            computation = hlo_text.rfind("\n}", 0, match.start())
            if channels.setdefault((channel.group(1), kind, shapes), computation) != computation:
                continue
        if is_start and (kind != "all-reduce" or shape_text.startswith("((")):
            # (operands, results[, two u32 words of the runtime]); an all-reduce-start returns its results alone, but
            # from jax 0.12 on.
            if kind == "collective-permute":
                shapes = tuple(shape for shape in shapes if shape != ("u32", ()))
            shapes = shapes[len(shapes) // 2 :]
        group = _group_size(rest, num_partitions)
        if around:
            kind, shapes = "reduce-scatter", _shapes(around[0].group(1))
        num_bytes = sum(_num_bytes(*shape) for shape in shapes) * (group if kind == "reduce-scatter" else 1)
        runs = max(times.get(hlo.computation_at(hlo_text, match.start()), 1), 1)
        found.append(Collective(kind, shapes, int(num_bytes), group, runs))
    return found


def totals(collectives: Iterable[Collective]) -> dict[str, dict[str, int]]:
    """kind -> {"count", "bytes"}, every kind present."""
    result = {kind: {"count": 0, "bytes": 0} for kind in KINDS}
    for one in collectives:
        result[one.kind]["count"] += 1
        result[one.kind]["bytes"] += one.num_bytes
    return result


def arrays(collectives: Iterable[Collective]) -> list[tuple[str, str]]:
    """(kind, "f32[8,128]") of every array that is sent, joined ones apart, so that two programs can be compared."""
    return [(one.kind, f"{dtype}[{','.join(map(str, dims))}]") for one in collectives for dtype, dims in one.shapes]


def shares(one: Collective) -> dict[str, float]:
    """Dtype, as HLO names it ("f32") -> its share of the bytes of a collective."""
    sizes: dict[str, float] = {}
    for dtype, dims in one.shapes:
        sizes[dtype] = sizes.get(dtype, 0.0) + _num_bytes(dtype, dims)
    return {dtype: num_bytes / max(sum(sizes.values()), 1) for dtype, num_bytes in sizes.items()}


def _shapes(text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((dtype, tuple(int(n) for n in dims.split(",") if n)) for dtype, dims in _SHAPE.findall(text))


def _num_bytes(dtype: str, dims: tuple[int, ...]) -> float:
    """Bytes of an array; the width is the number in the dtype's name (f32, bf16, s8, f8e4m3fn), a few aside."""
    if dtype == "token":
        return 0
    width = _BYTES.get(dtype)
    if width is None:
        digits = re.search(r"\d+", dtype)
        if digits is None:
            raise ValueError(f"unknown dtype {dtype!r} in the HLO text; add it to sharding/collectives.py")
        width = int(digits.group()) / 8
    return width * math.prod(dims)


def _group_size(attributes: str, num_partitions: int) -> int:
    if match := _GROUP_LIST.search(attributes):
        return match.group(1).count(",") + 1
    if match := _GROUP_IOTA.search(attributes):
        return int(match.group(1))
    if match := _GROUP_MESH.search(attributes):  # mesh['a'=4,'b'=2] {'a'}, or {'a':(1)2} for a part of an axis
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", match.group(1))}
        used = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", match.group(2))
        return math.prod(int(part) if part else sizes[name] for name, part in used)
    return num_partitions  # replica_groups={}: all of them
