"""The processes of this run, as the preparation of data and the reading of batches want them."""

from codir_jax.data.shards.preparation import Together
from codir_jax.processes import console, distributed, shared_folder


def together() -> Together:
    """This process among the others, with the console of the first."""
    return Together(
        index=distributed.process_id(),
        count=distributed.num_processes(),
        barrier=lambda _: distributed.barrier(),
        tell=console.say,
        progress=console.progress_bar,
        require_shared=lambda folder: shared_folder.require_shared(folder, "data.cache_dir"),
    )


def own_rows(num_rows: int) -> range:
    """Those of so many rows that this process reads."""
    index, count = distributed.process_id(), distributed.num_processes()
    return range(num_rows * index // count, num_rows * (index + 1) // count)
