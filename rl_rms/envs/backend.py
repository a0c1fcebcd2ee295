"""The interface between NonStationaryVector and one kind of vector environment."""

from abc import ABC, abstractmethod
from typing import Any

from rl_rms.envs.clocks import Column, Mask
from rl_rms.envs.layers import Layers, lost_sentence
from rl_rms.envs.noise import NoiseKey
from rl_rms.envs.notices import Notices

OTHERWISE = (
    "the state was saved of a vector environment that was made otherwise; make it with the same "
    "vectorization_mode and the same wrappers"
)
Transitions = tuple[Any, Any, Any, Any, dict[str, Any]]


class Backend(ABC):
    """One kind of vector environment.

    Attributes:
        moves_observations: Whether any target is an ``observation.*``.
        has_noise: Whether random numbers are drawn at each env step.
        is_drawn: Whether any target needs random numbers.
        episodic: Which targets, by their numbers, end the episodes in progress when they change.
        late: Targets that take effect only with the next reset.
        asks_where: Whether `step` asks which of the sub-environments are valid.
        last: The observations that were returned last; None before the first reset.
        lost_wrappers: Names of the wrappers whose state cannot be saved.
    """

    moves_observations: bool
    has_noise: bool
    is_drawn: bool
    episodic: tuple[int, ...]
    late: tuple[str, ...]
    asks_where: bool
    last: Any = None
    _layers: Layers

    def __init__(self) -> None:
        self._notices = Notices()

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers whose state cannot be saved."""
        return self._layers.lost

    def _warn_of_lost(self, names: list[str]) -> None:
        if names:
            self._notices.give(lost_sentence(names))

    @abstractmethod
    def set(self, columns: tuple[Column, ...]) -> None:
        """Set the targets, in their order: a number for all, or one for each, shape ``(num_envs,)``."""

    @abstractmethod
    def place(self, noise_key: NoiseKey) -> None:
        """Say who draws random numbers, and when."""

    @abstractmethod
    def current(self) -> tuple[float, ...]:
        """The values that the targets have now."""

    @abstractmethod
    def reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes."""

    @abstractmethod
    def step(self, actions: Any, valid: Mask) -> Transitions:
        """Make a vector step, in which the sub-environments that are not ``valid`` only begin an episode."""

    @abstractmethod
    def announce(self, columns: tuple[Column, ...], ending: Mask) -> None:
        """Say for which sub-environments the next transition truncates the episode, and what holds after it."""

    @abstractmethod
    def snapshot(self) -> Any:
        """The sub-environments within their episodes as plain JSON data, or None, with a warning."""

    @abstractmethod
    def restore(self, snapshot: Any, resetting: Mask) -> None:
        """Bring the sub-environments to where others were; ``resetting`` are those that begin in the next step."""
