"""The counts of an injected fault."""

from typing import NamedTuple


class Count(NamedTuple):
    """The number of injections of a fault, and the number of losses."""

    fault: str
    injected: int
    lost: int
