"""Kinds of flag that argparse does not have."""


def names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list; "" is none."""
    return tuple(name for name in text.split(",") if name)


def numbers(text: str) -> tuple[int, ...]:
    """The whole numbers in a comma-separated list."""
    return tuple(int(number) for number in text.split(","))
