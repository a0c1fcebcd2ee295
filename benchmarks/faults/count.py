"""What a fault that was put in has cost."""

from typing import NamedTuple


class Count(NamedTuple):
    """How often a fault was put in, and how often it cost anything."""

    fault: str
    injected: int
    lost: int
