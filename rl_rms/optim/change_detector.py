"""Detection of changes in the level of a noisy statistic."""

import math
from typing import Any

from rl_rms.optim.estimators import is_alike


class ChangeDetector:
    """Tells when the level of a positive, noisy statistic changes: a two-sided CUSUM (Page 1954) on its logarithm.

        z  = (ln x - mean) / deviation,  cut off at +-4
        c+ = max(0, c+ + z - 0.35),  c- = max(0, c- - z - 0.35),  a change where one of them passes 15

    The mean is that since the last change, the deviation that of all values, as a change of scale shifts the
    logarithms and leaves their spread. Both have a memory of 512 values at most, so that a slow drift is no
    change. It judges from the 33rd value on, and anew from the 17th after a change.

    Examples:
        >>> detector = ChangeDetector()
        >>> [t for t in range(200) if detector.update((1.0, 1.3)[t % 2] if t < 100 else 9.0)]
        [103]
    """

    _FIRST, _AGAIN = 32, 16
    _MEMORY = 512
    _CUT = 4.0
    _ALLOWANCE = 0.35
    _THRESHOLD = 15.0

    def __init__(self) -> None:
        self._seen = self._since = 0
        self._mean = self._variance = 0.0
        self._above = self._below = 0.0

    def update(self, value: float) -> bool:
        """Take in one value.

        Args:
            value: The statistic, in any unit; a value that is not finite and above 0 is passed over.

        Returns:
            Whether the level has changed since the last change.
        """
        if not 0.0 < value < math.inf:
            return False
        x = math.log(value)
        self._seen += 1
        self._since += 1
        off = x - self._mean
        if self._seen > self._FIRST:
            deviation = math.sqrt(self._variance) + 1e-12
            z = off / deviation
            if self._since > 1 and not -self._CUT < z < self._CUT:
                z = math.copysign(self._CUT, z)
                off = z * deviation  # an outlier moves mean and deviation no further
            if self._since > self._AGAIN:
                self._above = max(0.0, self._above + z - self._ALLOWANCE)
                self._below = max(0.0, self._below - z - self._ALLOWANCE)
                if self._above > self._THRESHOLD or self._below > self._THRESHOLD:
                    self._since = 0
                    self._mean = self._above = self._below = 0.0
                    return True
        self._mean += off / min(self._since, self._MEMORY)
        gain = 1.0 / min(self._seen, self._MEMORY)
        if self._since > 1:  # the first after a change is its own mean
            self._variance += gain * ((1.0 - gain) * off * off - self._variance)
        return False

    def state_dict(self) -> dict[str, Any]:
        """Its numbers."""
        return {
            "seen": self._seen,
            "since": self._since,
            "mean": self._mean,
            "variance": self._variance,
            "above": self._above,
            "below": self._below,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            ValueError: If it is incomplete or holds anything but numbers.
        """
        present = self.state_dict()
        if not isinstance(state, dict) or not all(
            key in state and is_alike(state[key], value) for key, value in present.items()
        ):
            raise ValueError(f"the state of a change detector must be like {present}, got {state!r:.200}")
        self._seen, self._since = int(state["seen"]), int(state["since"])
        self._mean, self._variance = float(state["mean"]), float(state["variance"])
        self._above, self._below = float(state["above"]), float(state["below"])
