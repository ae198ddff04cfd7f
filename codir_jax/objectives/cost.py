"""What a step of a method costs beside its models, for `codir plan`."""

from typing import NamedTuple


class Features(NamedTuple):
    """What the devices send each other of a step's features, for `codir plan`.

    Attributes:
      batch_size: examples of the whole batch. num_bytes: of an example's features, both sides.
      bank_rows: rows that are read of a bank. has_in_batch, has_queue: the other sources.
      table_bytes: that are read of tables with a row for each train row.
    """

    batch_size: int
    num_bytes: int
    bank_rows: int
    table_bytes: int
    has_in_batch: bool
    has_queue: bool

    @property
    def held_bytes(self) -> int:
        """Bytes of the whole batch's features and of the bank rows, which every device has."""
        return (self.batch_size + self.bank_rows) * self.num_bytes


class StepSize(NamedTuple):
    """Sizes of a step.

    Attributes:
      batch_size: of all devices. num_train: examples. shards: parts of a batch. devices: all. length: tokens of a text.
    """

    batch_size: int
    num_train: int
    shards: int
    devices: int
    length: int = 1


class Cost(NamedTuple):
    """What a step of a method costs beside its models.

    Attributes:
      flops: name of a part -> operations on all devices, where each does its share only.
      scores: numbers on one device for which value, exponential and mask are kept.
      features: what is sent; None: nothing.
    """

    flops: dict[str, float]
    scores: float
    features: Features | None


def no_cost(size: StepSize) -> Cost:
    """The cost of a method that only reads what its models give."""
    del size
    return Cost({}, 0.0, None)
