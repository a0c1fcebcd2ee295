"""Ready-made non-stationary tasks, registered with Gymnasium as ``rl_rms/<name>`` when this module is imported.

``gymnasium.make("rl_rms.envs.tasks:rl_rms/DriftingCartPole-v0")`` imports the module. Each task is a
`NonStationary` around an environment of Gymnasium or rl_rms, which has its own time limit. Therefore,
``max_episode_steps`` of ``gymnasium.make`` can only shorten episodes. `rl_rms.envs.make_vec` also accepts the ids
of the tasks, and its ``max_episode_steps`` replaces the time limit. By default, `make_vec` uses one clock for all
sub-environments.

Most tasks suit runs of about a million env steps. In most tasks, slow drift has a period of 200,000 env steps, and
jumps occur every 100,000 env steps. The values are meant to keep every task learnable, and are not tuned for an
optimizer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import register
from gymnasium.wrappers import TransformReward

from rl_rms.envs.config import EnvConfig
from rl_rms.envs.nonstationary import NonStationary

NAMESPACE = "rl_rms"
# Some rewards of these environments are integers, which the tasks convert to floats.
_INTEGER_REWARDS = ("FrozenLake-v1", "BipedalWalker-v3", "rl_rms/TaskSwitch-v0")


@dataclass(frozen=True)
class Task:
    """An environment and its changes.

    Attributes:
        about: Description of the changes.
        base: Gymnasium's id of the environment.
        changes: Configuration of ``env.changes``.
        curriculum: Configuration of ``env.curriculum``.
        kwargs: Arguments of the environment.
    """

    about: str
    base: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    curriculum: Mapping[str, Any] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def _slow(mean: float, amplitude: float) -> dict[str, Any]:
    return {"sinusoid": {"mean": mean, "amplitude": amplitude, "period": 200_000}}


def _jumps(low: float, high: float, every: int = 100_000) -> dict[str, Any]:
    return {"redraw": {"low": low, "high": high, "every": every}}


def _among(*values: float) -> dict[str, Any]:
    return {"redraw": {"values": list(values), "every": 100_000}}


def _stages(target: str, values: tuple[float, ...], threshold: float) -> dict[str, Any]:
    return {"staged": {"stages": [{target: value} for value in values], "threshold": threshold}}


# The first map is Gymnasium's own. Each map has a different path around the holes.
_LAKES = (
    ["SFFF", "FHFH", "FFFH", "HFFG"],
    ["SFHF", "FFFF", "HFHF", "FFFG"],
    ["SHFF", "FFFH", "HHFF", "FFFG"],
    ["SFFH", "HHFF", "FFFF", "FHHG"],
)
_FLIP = {"action.flip": _among(0.0, 1.0)}

TASKS: dict[str, Task] = {
    # -- classic control --------------------------------------------------------------------------------------
    "DriftingCartPole-v0": Task(
        "Gravity and the pole's length oscillate slowly.",
        "CartPole-v1",
        {"gravity": _slow(9.8, 4.0), "length": _slow(0.8, 0.5)},
    ),
    "JumpingCartPole-v0": Task(
        "The pole's length jumps, and the motor's direction sometimes reverses.",
        "CartPole-v1",
        {"length": _jumps(0.1, 2.0), "force_mag": _among(-10.0, 10.0)},
    ),
    "CurriculumCartPole-v0": Task(
        "The pole gets shorter each time the mean return reaches a threshold.",
        "CartPole-v1",
        curriculum=_stages("length", (1.0, 0.5, 0.25, 0.15, 0.1), 450.0),
    ),
    "DriftingAcrobot-v0": Task(
        "The mass of the second link oscillates slowly.", "Acrobot-v1", {"LINK_MASS_2": _slow(1.0, 0.5)}
    ),
    "JumpingAcrobot-v0": Task("The direction of the motor sometimes reverses.", "Acrobot-v1", _FLIP),
    "CurriculumAcrobot-v0": Task(
        "The motor gets weaker each time the mean return reaches a threshold.",
        "Acrobot-v1",
        curriculum=_stages("torque", (2.0, 1.5, 1.0), -150.0),
    ),
    "DriftingMountainCar-v0": Task(
        "Gravity oscillates, which changes the run-up that the car needs.",
        "MountainCar-v0",
        {"gravity": _slow(0.0025, 0.0005)},
    ),
    "JumpingMountainCar-v0": Task("The direction of the motor sometimes reverses.", "MountainCar-v0", _FLIP),
    "CurriculumMountainCar-v0": Task(
        "The motor gets weaker each time the mean return reaches a threshold.",
        "MountainCar-v0",
        curriculum=_stages("force", (0.004, 0.002, 0.0015, 0.001), -150.0),
    ),
    "DriftingPendulum-v0": Task("Gravity oscillates slowly.", "Pendulum-v1", {"g": _slow(10.0, 4.0)}),
    "JumpingPendulum-v0": Task("The pendulum's mass jumps.", "Pendulum-v1", {"m": _jumps(0.5, 1.5)}),
    "CurriculumPendulum-v0": Task(
        "Gravity grows each time the mean return reaches a threshold.",
        "Pendulum-v1",
        curriculum=_stages("g", (2.0, 5.0, 8.0, 10.0), -250.0),
    ),
    # -- Box2D ------------------------------------------------------------------------------------------------
    "DriftingLunarLander-v0": Task("Gravity oscillates slowly.", "LunarLander-v3", {"gravity": _slow(-8.0, 3.0)}),
    "JumpingLunarLander-v0": Task(
        "The wind power jumps.",
        "LunarLander-v3",
        {"wind_power": _jumps(0.0, 20.0)},
        kwargs={"enable_wind": True},
    ),
    "CurriculumLunarLander-v0": Task(
        "Gravity grows each time the mean return reaches a threshold.",
        "LunarLander-v3",
        curriculum=_stages("gravity", (-4.0, -7.0, -10.0), 150.0),
    ),
    "DriftingBipedalWalker-v0": Task(
        "Gravity oscillates slowly.", "BipedalWalker-v3", {"gravity": _slow(-10.0, 2.0)}
    ),
    "JumpingBipedalWalker-v0": Task(
        "The strength of the motors jumps.", "BipedalWalker-v3", {"action.gain": _jumps(0.5, 1.0)}
    ),
    "CurriculumBipedalWalker-v0": Task(
        "Gravity grows each time the mean return reaches a threshold.",
        "BipedalWalker-v3",
        curriculum=_stages("gravity", (-6.0, -8.0, -10.0), 100.0),
    ),
    # -- MuJoCo -----------------------------------------------------------------------------------------------
    "DriftingHopper-v0": Task("Gravity oscillates slowly.", "Hopper-v5", {"gravity": _slow(-9.81, 2.0)}),
    "JumpingHopper-v0": Task("The friction of the ground jumps.", "Hopper-v5", {"friction": _jumps(0.5, 2.0)}),
    "CurriculumHopper-v0": Task(
        "Gravity grows each time the mean return reaches a threshold.",
        "Hopper-v5",
        curriculum=_stages("gravity", (-5.0, -7.5, -9.81), 1_000.0),
    ),
    "DriftingHalfCheetah-v0": Task("Gravity oscillates slowly.", "HalfCheetah-v5", {"gravity": _slow(-9.81, 2.0)}),
    "JumpingHalfCheetah-v0": Task(
        "The strength of the motors jumps.", "HalfCheetah-v5", {"action.gain": _jumps(0.5, 1.0)}
    ),
    "CurriculumHalfCheetah-v0": Task(
        "The motors get weaker each time the mean return reaches a threshold.",
        "HalfCheetah-v5",
        curriculum=_stages("action.gain", (1.0, 0.75, 0.5), 1_000.0),
    ),
    "DriftingAnt-v0": Task("Gravity oscillates slowly.", "Ant-v5", {"gravity": _slow(-9.81, 2.0)}),
    "SlipperyAnt-v0": Task(
        "Ground friction jumps every two million env steps, as often as in Dohare et al., Nature 632 (2024).",
        "Ant-v5",
        {"friction": _jumps(0.02, 2.0, every=2_000_000)},
    ),
    "CurriculumAnt-v0": Task(
        "The ground gets more slippery each time the mean return reaches a threshold.",
        "Ant-v5",
        curriculum=_stages("friction", (1.5, 1.0, 0.5, 0.2), 1_000.0),
    ),
    # -- toy text ---------------------------------------------------------------------------------------------
    "DriftingFrozenLake-v0": Task(
        "The probability of the intended move oscillates.", "FrozenLake-v1", {"success_rate": _slow(0.65, 0.3)}
    ),
    "JumpingFrozenLake-v0": Task(
        "The probability of the intended move changes abruptly.",
        "FrozenLake-v1",
        {"success_rate": _among(1 / 3, 0.6, 1.0)},
    ),
    "CurriculumFrozenLake-v0": Task(
        "The ice gets more slippery each time the mean return reaches a threshold.",
        "FrozenLake-v1",
        curriculum=_stages("success_rate", (1.0, 0.8, 0.6, 1 / 3), 0.6),
    ),
    "SwitchingFrozenLake-v0": Task(
        "One of four maps is drawn every 20,000 env steps. A change of the map truncates the episode in progress.",
        "rl_rms/TaskSwitch-v0",
        {"task": {"redraw": {"values": [0, 1, 2, 3], "every": 20_000}}},
        kwargs={"tasks": [{"id": "FrozenLake-v1", "desc": lake, "is_slippery": False} for lake in _LAKES]},
    ),
    # -- protocols --------------------------------------------------------------------------------------------
    **{
        f"Offset{name}-v0": Task(
            "From env step 100,000 on, observations have an offset with the standard deviation 2 in each "
            "component. The offset is drawn again every 100,000 env steps, similar to Muppidi, Zhang and Yang "
            "(TRAC, NeurIPS 2024).",
            base,
            {
                "observation.offsets": {"step": {"before": 0.0, "after": 2.0, "at": 100_000}},
                "observation.offsets_draw": _jumps(0.0, 1e9),
            },
        )
        for name, base in (
            ("CartPole", "CartPole-v1"),
            ("Acrobot", "Acrobot-v1"),
            ("LunarLander", "LunarLander-v3"),
        )
    },
    "RewardScaleCartPole-v0": Task(
        "Rewards are multiplied by 1, 10 or 100. This changes the scale of gradients, but not the best policy.",
        "CartPole-v1",
        {"reward.scale": _among(1.0, 10.0, 100.0)},
    ),
    "DriftingBandit-v0": Task(
        "The means of ten arms drift independently.",
        "rl_rms/Bandit-v0",
        {f"mean_{arm}": {"ornstein_uhlenbeck": {"mean": 0.0, "std": 1.0, "tau": 5_000}} for arm in range(10)},
    ),
    "JumpingBandit-v0": Task(
        "The means of ten arms jump at independent random times.",
        "rl_rms/Bandit-v0",
        {f"mean_{arm}": {"poisson_jumps": {"low": -1.0, "high": 1.0, "mean_dwell": 10_000}} for arm in range(10)},
    ),
    "JumpingTwoStates-v0": Task(
        "The rewards of the two states are swapped every 5,000 env steps.",
        "rl_rms/TwoStates-v0",
        {
            "reward_0": {"square": {"low": 1.0, "high": 0.0, "period": 10_000}},
            "reward_1": {"square": {"low": 0.0, "high": 1.0, "period": 10_000}},
        },
    ),
}


def make_task(name: str, **kwargs: Any) -> NonStationary:
    """Make a registered task.

    Args:
        name: Name of the task, without ``rl_rms/``.
        **kwargs: ``seed`` and ``env_index`` of `NonStationary`, and arguments of the wrapped environment, such as
            ``render_mode``.
    """
    task = TASKS[name]
    own = {key: kwargs.pop(key) for key in ("seed", "env_index") if key in kwargs}
    config = task_config(name)
    env: gym.Env[Any, Any] = gym.make(task.base, disable_env_checker=True, **{**task.kwargs, **kwargs})
    if task.base in _INTEGER_REWARDS:
        env = TransformReward(env, float)
    return NonStationary(env, config.schedules(), curriculum=config.make_curriculum(), **own)


def task_config(name: str) -> EnvConfig:
    """Return the configuration of a registered task.

    Args:
        name: Name of the task, without ``rl_rms/``.
    """
    task = TASKS[name]
    curriculum = None if task.curriculum is None else dict(task.curriculum)
    return EnvConfig(id=task.base, changes=dict(task.changes), curriculum=curriculum, kwargs=dict(task.kwargs))


def find_task(id: str) -> EnvConfig | None:
    """Return the configuration of a ready-made task; None for other ids.

    Args:
        id: Id such as ``"rl_rms/DriftingCartPole-v0"``, with or without a module and a colon before it.
    """
    name = id.rpartition(":")[2].removeprefix(f"{NAMESPACE}/")
    return task_config(name) if name in TASKS else None


register(id=f"{NAMESPACE}/TaskSwitch-v0", entry_point="rl_rms.envs.switching:TaskSwitch", disable_env_checker=True)
register(id=f"{NAMESPACE}/Bandit-v0", entry_point="rl_rms.envs.toys:GaussianBandit", max_episode_steps=100)
register(id=f"{NAMESPACE}/TwoStates-v0", entry_point="rl_rms.envs.toys:TwoStates", max_episode_steps=100)
register(id=f"{NAMESPACE}/Lending-v0", entry_point="rl_rms.envs.lending:Lending", max_episode_steps=100)
for _name in TASKS:
    register(id=f"{NAMESPACE}/{_name}", entry_point="rl_rms.envs.tasks:make_task", kwargs={"name": _name})
