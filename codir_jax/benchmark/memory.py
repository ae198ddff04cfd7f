"""Memory: the peak so far, and what is free."""

import resource
import sys
from pathlib import Path
from typing import Any

import jax


def peak() -> dict[str, Any]:
    """{"bytes", "of"}: the most that was in use since the process started.

    "of" is "device" (the fullest one) where devices count their memory, else "process": its resident set.
    """
    stats = [device.memory_stats() for device in jax.local_devices()]
    peaks = [one["peak_bytes_in_use"] for one in stats if one and "peak_bytes_in_use" in one]
    if peaks:
        return {"bytes": max(peaks), "of": "device"}
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return {"bytes": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "of": "process"}


def available() -> int | None:
    """Bytes that are free on the fullest device, or in the machine's memory; None where nobody tells."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    free = [one["bytes_limit"] - one["bytes_in_use"] for one in stats if one and "bytes_limit" in one]
    if free:
        return min(free)
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)


def needed(compiled) -> int:
    """Bytes on one device while a compiled program runs: arguments, results that are not written over them, scratch."""
    sizes = compiled.memory_analysis()
    kept = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return int(sizes.argument_size_in_bytes + kept + sizes.temp_size_in_bytes)
