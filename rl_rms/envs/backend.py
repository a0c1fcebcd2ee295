"""The interface that `NonStationaryVector` uses for each kind of vector environment."""

from abc import ABC, abstractmethod
from typing import Any

from rl_rms.envs.clocks import Column, Mask
from rl_rms.envs.layers import Layers, WrapperStates, lost_sentence
from rl_rms.envs.noise import NoiseKey
from rl_rms.envs.notices import Notices

OTHERWISE = (
    "the state does not fit this vector environment; make the vector environment with the vectorization_mode and "
    "the wrappers of the saved environment"
)
Transitions = tuple[Any, Any, Any, Any, dict[str, Any]]


class Backend(ABC):
    """Sets the targets of a vector environment, steps it, and saves and restores its state.

    Attributes:
        moves_observations: Whether any target transforms observations.
        has_noise: Whether the targets need random numbers at each env step.
        is_drawn: Whether any target needs random numbers.
        episodic: Indices of the targets whose changes end the episodes in progress.
        late: Targets that take effect only at the next reset.
        needs_valid: Whether a vector step needs the mask of the sub-environments that make a transition. The other
            sub-environments only start an episode.
        last: The last observations; None before the first reset.
        lost_wrappers: Names of the wrappers whose state cannot be saved.
    """

    moves_observations: bool
    has_noise: bool
    is_drawn: bool
    episodic: tuple[int, ...]
    late: tuple[str, ...]
    needs_valid: bool
    last: Any = None
    _layers: Layers

    def __init__(self) -> None:
        self._notices = Notices()

    @property
    def wrapper_states(self) -> WrapperStates:
        """The state of each sub-environment's wrappers; empty if unreadable, as in native environments."""
        return []

    @wrapper_states.setter
    def wrapper_states(self, states: WrapperStates) -> None:
        raise ValueError(OTHERWISE)

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers whose state cannot be saved."""
        return self._layers.lost

    def _warn_of_lost(self, names: list[str]) -> None:
        if names:
            self._notices.give(lost_sentence(names))

    @abstractmethod
    def set(self, columns: tuple[Column, ...]) -> None:
        """Set the targets' values, in the order of the targets: scalars, or arrays of shape ``(num_envs,)``."""

    @abstractmethod
    def place(self, noise_key: NoiseKey) -> None:
        """Set the environments and clock readings for which random numbers are drawn."""

    @abstractmethod
    def current(self) -> tuple[float, ...]:
        """Return the current values of the targets."""

    @abstractmethod
    def reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes."""

    @abstractmethod
    def step(self, actions: Any, valid: Mask) -> Transitions:
        """Make a vector step. Sub-environments that are not ``valid`` only start an episode."""

    @abstractmethod
    def announce(self, columns: tuple[Column, ...], ending: Mask) -> None:
        """Make the ``ending`` sub-environments truncate their episodes in the next step.

        At the end of this step, these sub-environments set their targets to the values ``columns``.
        """

    @abstractmethod
    def snapshot(self) -> Any:
        """Return the sub-environments' state within their episodes as plain JSON data.

        The result is None before the first reset. If the state cannot be saved, the method returns None, and warns
        about each reason once.
        """

    @abstractmethod
    def restore(self, snapshot: Any, resetting: Mask) -> None:
        """Restore a state that `snapshot` returned.

        Args:
            snapshot: The state.
            resetting: Whether each sub-environment starts an episode in the next step, shape ``(num_envs,)``.
        """
