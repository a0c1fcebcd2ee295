"""The YAML forms of schedules, and how they are read."""

from collections.abc import Mapping
from typing import Any

from rl_rms.envs.checks import choose, is_number
from rl_rms.envs.schedules.adversarial import AdversarialBurst
from rl_rms.envs.schedules.algebra import Clip, Product, Reflect, Sum
from rl_rms.envs.schedules.base import Schedule
from rl_rms.envs.schedules.diffusion import OrnsteinUhlenbeck, RandomWalk
from rl_rms.envs.schedules.jumps import Burst, PoissonJumps, Redraw
from rl_rms.envs.schedules.levels import Constant, PiecewiseConstant, Step
from rl_rms.envs.schedules.markov import Markov
from rl_rms.envs.schedules.periodic import Sawtooth, Sinusoid, Square
from rl_rms.envs.schedules.recorded import Function, Trace
from rl_rms.envs.schedules.timing import Ahead, Delay, During, Then
from rl_rms.envs.schedules.transitions import Cosine, Exponential, Linear, Sigmoid

SCHEDULES: dict[str, type[Schedule]] = {
    one.name: one
    for one in (
        Constant,
        Step,
        PiecewiseConstant,
        Linear,
        Cosine,
        Exponential,
        Sigmoid,
        Sinusoid,
        Square,
        Sawtooth,
        Redraw,
        PoissonJumps,
        Markov,
        Burst,
        AdversarialBurst,
        OrnsteinUhlenbeck,
        RandomWalk,
        Trace,
        Sum,
        Product,
        Clip,
        Reflect,
        Ahead,
        Delay,
        During,
        Then,
    )
}
"""The schedules by their names in YAML."""
_EXAMPLE = "{step: {before: 1.0, after: 2.0, at: 1000}} or a number"


def read_schedule(config: Any) -> Schedule:
    """Read the YAML form; a bare number is a `Constant`, and a schedule is returned as it is.

    Raises:
        ValueError: If it is no schedule, or has a wrong, missing or impossible argument.

    Examples:
        >>> walk = {"random_walk": {"start": 0, "std": 0.1}}
        >>> read_schedule({"sum": [9.8, {"delay": {"schedule": walk, "steps": 5}}]})
        Sum(schedules=(Constant(value=9.8), Delay(schedule=RandomWalk(start=0.0, std=0.1), steps=5)))
    """
    if isinstance(config, Schedule):
        return config
    if is_number(config):
        return Constant(config)
    if isinstance(config, Mapping) and len(config) == 1:
        ((name, given),) = config.items()
        if name == Function.name:
            raise ValueError(
                "function holds a function of Python, which YAML cannot; make it in a script, or write its values "
                "to a file and use trace"
            )
        if name in (Sum.name, Product.name) and isinstance(given, (list, tuple)):
            config = {name: {"schedules": given}}
    name, given = choose("schedule", SCHEDULES, config, _EXAMPLE)
    return SCHEDULES[name](**given)


def as_schedules(changes: Mapping[str, Any] | None, name: str = "changes") -> dict[str, Schedule]:
    """Read ``{target: schedule}``, where schedules may be in YAML form or bare numbers.

    Args:
        changes: The targets and their schedules; None for none.
        name: What errors call it.

    Raises:
        ValueError: If it is no such mapping; names the target.
    """
    if changes is None:
        return {}
    if not isinstance(changes, Mapping):
        raise ValueError(f"{name} must be a mapping of targets to schedules, got {changes!r}")
    schedules = {}
    for target, config in changes.items():
        try:
            schedules[str(target)] = read_schedule(config)
        except ValueError as error:  # noqa: PERF203  # each error is to name its own target
            raise ValueError(f"{name}.{target}: {error}") from error
    return schedules
