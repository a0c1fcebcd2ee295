"""The half-life of an optimizer: fixed, matched to a timescale, or estimated from the gradients."""

import copy
from collections.abc import Iterable
from typing import Any, get_args

from torch import Tensor

from rl_rms.half_life import (
    EstimatedHalfLife,
    HalfLife,
    Timescale,
    check_positive,
    half_life_from_rho,
    is_number,
    parse_half_life,
    rho_from_half_life,
)
from rl_rms.laws import longest_half_life
from rl_rms.optim.bank import Bank
from rl_rms.optim.estimators import HalfLifeEstimator
from rl_rms.optim.matched import Matched
from rl_rms.optim.probes import Probes

_ESTIMATED = get_args(EstimatedHalfLife)
# Half-lives far below the lower bound may predict squared gradients better, but give lower returns, because large
# gradients carry the signal.
_BOUNDS = (32.0, 10_000.0)


class HalfLifeController:
    """Converts the half-life of a parameter group to its current decay.

    The group's entry ``"alpha"`` is the decay, or None before it is known. The group's entry ``"half_life"`` is
    ``"match"``, ``"auto"``, a half-life in env steps such as ``"50_000 steps"``, or None for a fixed decay.
    `entries` converts a half-life in updates to a fixed decay; a half-life in updates that a user assigns to the
    group stays. `rl_rms.RMSprop` describes the arguments.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        steps_per_update: float | None,
        timescale: float | str | Timescale | None,
        bounds: tuple[float, float] | None,
        max_step: float | None,
        estimator: HalfLifeEstimator | None,
    ) -> None:
        check_positive("max_step", max_step, "no bound")
        check_positive("steps_per_update", steps_per_update, "unknown")
        if not (estimator is None or isinstance(estimator, HalfLifeEstimator)):
            raise ValueError(
                "estimator must be an rl_rms.optim.estimators.HalfLifeEstimator, or None for Bank, got "
                f"{estimator!r}"
            )
        self.steps_per_update = steps_per_update
        self.timescale = None if timescale is None else Timescale.parse(timescale)
        if bounds is None:
            bounds = _BOUNDS if estimator is None else estimator.bounds
        self.bounds = Matched(bounds).bounds  # the setter checks the bounds, even if no half-life is estimated
        if estimator is not None:
            estimator.bounds = self.bounds
        self.max_step = max_step
        self._own_estimator = estimator
        self._estimators: dict[EstimatedHalfLife, HalfLifeEstimator] = {}
        self._probes: dict[EstimatedHalfLife, Probes] = {}
        self._loaded_probes: dict[EstimatedHalfLife, dict[str, Any]] = {}
        # This estimator observes no gradients, so it keeps the initial half-life of "match".
        self._initial_match = Matched(self.bounds)

    def entries(
        self,
        *,
        half_life: float | str | HalfLife | None = None,
        rho: float | None = None,
        alpha: float | None = None,
    ) -> dict[str, Any]:
        """The group entries for a given half-life or decay; empty if none is given.

        Raises:
            ValueError: If several arguments are given, or one is out of its range.
        """
        candidates: dict[str, Any] = {"half_life": half_life, "rho": rho, "alpha": alpha}
        given = {name: value for name, value in candidates.items() if value is not None}
        if len(given) > 1:
            listed = " and ".join(f"{name}={value!r}" for name, value in given.items())
            raise ValueError(f"half_life, rho and alpha all set the decay, got {listed}; give one of them")
        if not given:
            return {}
        if half_life is None:
            ((name, value),) = given.items()
            if not (is_number(value) and 0 <= value < 1):
                raise ValueError(f"{name} must be in [0, 1), got {value!r}; 0.99 is a half-life of 69 updates")
            return {"half_life": None, "alpha": float(value)}
        stated = parse_half_life(half_life)
        if isinstance(stated, HalfLife) and stated.unit == "updates":
            return {"half_life": None, "alpha": rho_from_half_life(stated.value)}
        entries: dict[str, Any] = {"half_life": str(stated), "alpha": None}
        return {**entries, "alpha": self.decay(entries)} if self.is_known(entries) else entries

    def is_known(self, group: dict[str, Any]) -> bool:
        """Whether a group's half-life can be converted to updates now."""
        stated = group["half_life"]
        if stated is None or stated == "auto":
            return True
        if stated == "match":
            timescale = self.timescale
            return timescale is not None and (timescale.unit == "updates" or self.steps_per_update is not None)
        return self.steps_per_update is not None or HalfLife.parse(stated).unit == "updates"

    def half_life(self, group: dict[str, Any]) -> float:
        """The current half-life of a group, in updates.

        Raises:
            ValueError: If a half-life or timescale in env steps has no ``steps_per_update``, or "match" has no
                timescale.
        """
        stated = group["half_life"]
        if stated is None:
            return _without_rounding(half_life_from_rho(group["alpha"]))
        if stated in _ESTIMATED:
            estimator = self._estimator(stated)
            if self.max_step is not None:
                estimator.bounds = self._bounds_in_force(self.max_step, float(group.get("lr", 0.0)))
            if stated == "match":
                estimator.timescale = self._known_timescale().in_updates(self.steps_per_update)
            return estimator.half_life
        return HalfLife.parse(stated).in_updates(self.steps_per_update)

    def decay(self, group: dict[str, Any]) -> float:
        """The current decay of a group. The errors are the same as for `half_life`."""
        return float(group["alpha"]) if group["half_life"] is None else rho_from_half_life(self.half_life(group))

    def latest_half_life(self, group: dict[str, Any]) -> float:
        """The current half-life. If the current half-life is unknown, the half-life of the last update.

        Raises:
            ValueError: If the half-life is unknown before the first update; see `half_life`.
        """
        decay = None if self.is_known(group) else group["alpha"]
        return self.half_life(group) if decay is None else _without_rounding(half_life_from_rho(decay))

    def latest_decay(self, group: dict[str, Any]) -> float:
        """The current decay. If the current half-life is unknown, the decay of the last update.

        Raises:
            ValueError: If the half-life is unknown before the first update; see `half_life`.
        """
        decay = None if self.is_known(group) else group["alpha"]
        return self.decay(group) if decay is None else float(decay)

    def matched(self) -> float | None:
        """The half-life of "match", in updates.

        If no group uses "match", the value is the initial half-life of "match", or None if the timescale in
        updates is unknown.
        """
        estimator = self._estimators.get("match", self._initial_match)
        if not self._give_timescale(estimator) and estimator is self._initial_match:
            return None
        return estimator.half_life

    @property
    def estimates(self) -> bool:
        """Whether any half-life is estimated from the gradients."""
        return bool(self._estimators)

    def observe(self, groups: Iterable[dict[str, Any]]) -> None:
        """Record the gradients that the estimators observe. Pass each full block to its estimator."""
        for kind, estimator in self._estimators.items():
            if kind not in self._probes:
                params: list[Tensor] = [param for group in groups for param in group["params"]]
                with_grad = [param for param in params if param.grad is not None and param.numel() > 0]
                if not with_grad:
                    return
                probes = self._probes[kind] = Probes(with_grad, estimator.num_probes, estimator.block)
                if kind in self._loaded_probes:
                    probes.load_state_dict(self._loaded_probes.pop(kind))
            block = self._probes[kind].record()
            if block is not None:
                if kind == "match":
                    # While the half-life is shortened after a change, no group reads the half-life of "match".
                    self._give_timescale(estimator)
                estimator.observe(block)

    def copied(self) -> "HalfLifeController":
        """A copy whose half-lives can be read without an effect on later updates."""
        copied = copy.copy(self)
        # Reading a half-life may fit an estimator to the current timescale.
        copied._estimators = {kind: copy.copy(estimator) for kind, estimator in self._estimators.items()}
        return copied

    def _give_timescale(self, estimator: HalfLifeEstimator) -> bool:
        """Set the timescale of the estimator of "match", and return whether the timescale in updates is known."""
        if not self.is_known({"half_life": "match"}):
            return False
        estimator.timescale = self._known_timescale().in_updates(self.steps_per_update)
        return True

    def _known_timescale(self) -> Timescale:
        if self.timescale is None:
            raise ValueError(
                'half_life="match" needs the timescale of the environment\'s changes, got timescale=None; give '
                'its value, such as timescale="50_000 steps", or use half_life="auto"'
            )
        return self.timescale

    def forget_estimates_but(self, groups: Iterable[dict[str, Any]]) -> None:
        """Remove estimators that no group uses."""
        stated = {group["half_life"] for group in groups}
        for kind in self._estimators.keys() - stated:
            del self._estimators[kind]
            self._probes.pop(kind, None)

    def diagnostics(self) -> dict[str, float]:
        """The diagnostics and the bounds of the estimators."""
        values: dict[str, float] = {}
        for estimator in self._estimators.values():
            low, high = estimator.bounds
            values |= {"half_life_shortest": low, "half_life_longest": high, **estimator.diagnostics()}
        return values

    def state_dict(self) -> dict[str, Any]:
        """The states of the estimators, and the unfinished blocks of their probes."""
        probes = {**self._loaded_probes, **{kind: own.state_dict() for kind, own in self._probes.items()}}
        return {kind: estimator.state_dict() for kind, estimator in self._estimators.items()} | {"probes": probes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a `state_dict`.

        Raises:
            ValueError: If a part of the state has the wrong form, or an estimator cannot load its state.
        """
        if not isinstance(state, dict):
            raise ValueError(f"'controller' must be a dictionary, got {state!r:.100}; save the optimizer again")
        probes = state.get("probes", {})
        if not (isinstance(probes, dict) and all(map(Probes.is_state, probes.values()))):
            raise ValueError(
                "the state of the probes must have a tensor 'block' and the number 'filled' of its rows, got "
                f"{probes!r:.200}; save the optimizer again"
            )
        for kind, estimate in state.items():
            if kind in _ESTIMATED:
                if not isinstance(estimate, dict):
                    raise ValueError(
                        f"the state of the estimator {kind!r} must be a dictionary, got {estimate!r:.100}; save "
                        "the optimizer again"
                    )
                self._estimator(kind).load_state_dict(estimate)  # type: ignore[arg-type]
        self._probes.clear()
        self._loaded_probes = dict(probes)

    def _estimator(self, kind: EstimatedHalfLife) -> HalfLifeEstimator:
        """The estimator of "match" or "auto", built at the first use."""
        if kind not in self._estimators:
            if kind == "match":
                self._estimators[kind] = Matched(self.bounds)
            else:
                self._estimators[kind] = self._own_estimator or Bank(self.bounds)
        return self._estimators[kind]

    def _bounds_in_force(self, max_step: float, lr: float) -> tuple[float, float]:
        low, high = self.bounds
        if lr > 0:
            high = min(high, longest_half_life(max_step, lr))
        return min(low, high), high


def _without_rounding(half_life: float) -> float:
    """Round a half-life that was computed from a decay: 200 instead of 199.9999999999971."""
    return float(f"{half_life:.9g}")
