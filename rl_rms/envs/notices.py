"""Issues each warning at most once per `Notices` object, even if Python's warning filters allow repetitions."""

import warnings


class Notices:
    """Issues warnings, and remembers which warnings were issued."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, message: str) -> None:
        """Warn, unless this object has already issued the message."""
        if message not in self._given:
            self._given.add(message)
            warnings.warn(message, stacklevel=3)
