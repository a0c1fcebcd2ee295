"""Issues each warning once, independent of Python's warning filters."""

import warnings


class Notices:
    """Issues each warning once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, message: str) -> None:
        """Warn, unless this object has already issued the message."""
        if message not in self._given:
            self._given.add(message)
            warnings.warn(message, stacklevel=3)
