"""Checks whether agents train and resume in environments of other packages, and whether parameters can change.

Run: make compatibility, or python benchmarks/compatibility.py [--rows highway-env MiniGrid]

Each row runs in its own process with its own time limit. If a check raises an error, the table shows the name of
the error, and the process writes the traceback to the standard error.

- trains: A2C makes 160 env steps.
- drifts: A2C makes 50 env steps with a new value of a target, such as a parameter of the environment. The cell
  names the first target whose new value raises no error. The check tries the targets of the row. In a row without
  targets, the check tries targets that `rl-rms inspect` lists with an effect, unless the vector environment is the
  package's own. Last, the check tries ``observation.noise`` and ``reward.scale``.
- resumes: ``bit-identical`` means that the weights after saving, loading and continuing equal the weights of an
  uninterrupted training run.
- films: an episode of at most 30 env steps becomes a video.
- Stable-Baselines3: A2C of Stable-Baselines3 makes 160 env steps in the same environment.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from rl_rms.agents import A2C, VideoCallback
from rl_rms.envs import NonStationaryVector, make_vec
from rl_rms.envs.inspection import effect, find_targets
from rl_rms.envs.parametrized import find_parametrized
from rl_rms.envs.wrappers import as_wrappers

STEPS = 160
# Time limit of a row in seconds. At the limit, the process of the row is killed. The row keeps its finished cells.
LIMIT = 1200
# Maximum number of an environment's targets whose effect the check measures.
TRIED = 6
PAGE = """# Environments of other packages

`make compatibility` installs the packages into a separate virtual environment, tries one RL environment of each
package, and writes this page. [Train in any Gymnasium environment](howto/any_environment.md) describes how to use
such packages. The table was measured with {libraries}.

{table}

- **trains**: A2C makes 160 env steps.
- **drifts**: A2C trains with a new value of the target in the cell. Every environment also has the target
  `reward.scale`.
- **resumes**: `bit-identical` means that the weights after saving, loading and continuing equal the weights of an
  uninterrupted training run.
- **films**: the recorder makes a video of an episode of at most 30 env steps.
- **Stable-Baselines3 trains**: its A2C makes 160 env steps in the same environment with the same wrappers.
- **no: TypeError** or another error: the feature fails with this error. POPGym, bsuite and gym-anytrading do not
  render images. The images of Tetris need an older NumPy.
- Tetris has a second random generator, which `reset(seed=0)` does not seed, so its episodes cannot be replayed.
- Crafter iterates over its creatures in the order of memory addresses, so two training runs with the same seed can
  differ, with or without an interruption.
- Crafter has the interface of Gym before version 0.26, and no `seed`, so Shimmy cannot convert it. The row uses
  the adapter `benchmarks/crafter_env.py`. To train in Crafter, copy this file into your working folder, and set
  `id: crafter_env:Crafter-v1`.
- Videos of ale-py's native vector environment show a single environment with the wrappers of Gymnasium.
"""


@dataclass(frozen=True)
class Row:
    """One environment.

    Args:
        packages: Names of the packages whose versions the table shows.
        id: Id of the environment.
        wrappers: Wrappers, see `rl_rms.envs.make_vec`.
        kwargs: Arguments of the environment.
        targets: Targets to try, in this order.
        native: Whether the vector environment is the package's own.
    """

    packages: Sequence[str]
    id: str
    wrappers: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    targets: Sequence[str] = ()
    native: bool = False


ATARI = ["AtariPreprocessing", {"FrameStackObservation": {"stack_size": 4}}]
ROWS = {
    "Atari": Row(
        ["ale-py"],
        "ale_py:ALE/Pong-v5",
        [*ATARI, "drift"],
        {"frameskip": 1},
        targets=["observation.noise"],
    ),
    "Atari, native vector": Row(["ale-py"], "ale_py:ALE/Pong-v5", native=True),
    "MiniGrid": Row(
        ["minigrid"],
        "minigrid:MiniGrid-DoorKey-5x5-v0",
        ["minigrid.wrappers:ImgObsWrapper"],
        targets=["max_steps"],
    ),
    "dm_control": Row(
        ["dm_control", "shimmy"],
        "shimmy:dm_control/cartpole-balance-v0",
        targets=["_env.physics.model.opt.gravity[2]"],
    ),
    "robotics": Row(
        ["gymnasium-robotics"],
        "gymnasium_robotics:PointMaze_UMazeDense-v3",
        targets=["point_env.model.dof_damping[0]"],
    ),
    "highway-env": Row(
        ["highway-env"],
        "highway_env:highway-fast-v0",
        kwargs={"config": {"vehicles_count": 5, "duration": 10}},
        targets=["config.collision_reward"],
    ),
    "mo-gymnasium": Row(
        ["mo-gymnasium"],
        "mo_gymnasium:mo-mountaincar-v0",
        [{"mo_gymnasium.wrappers:LinearReward": {"weight": [0.6, 0.2, 0.2]}}, "drift"],
        targets=["LinearReward.w[0]", "force"],
    ),
    "POPGym": Row(["popgym"], "popgym:popgym-RepeatPreviousEasy-v0"),
    "Flappy Bird": Row(["flappy-bird-gymnasium"], "flappy_bird_gymnasium:FlappyBird-v0"),
    "bsuite": Row(["bsuite", "shimmy"], "shimmy:bsuite/catch-v0"),
    # The adapter `crafter_env` is a file of this folder.
    "Crafter": Row(["crafter"], "crafter_env:Crafter-v1", targets=["observation.noise"]),
    "gym-anytrading": Row(["gym-anytrading"], "gym_anytrading:stocks-v0", targets=["observation.noise"]),
    "Tetris": Row(["tetris-gymnasium"], "tetris_gymnasium.envs:tetris_gymnasium/Tetris"),
    "2048": Row(["gymnasium-2048"], "gymnasium_2048:gymnasium_2048/TwentyFortyEight-v0"),
}


def make(
    row: Row, num_envs: int = 2, changes: Mapping[str, Any] | None = None, **kwargs: Any
) -> NonStationaryVector:
    """Make a row's vector environment."""
    mode = "native" if row.native else "sync"
    return make_vec(
        row.id,
        num_envs,
        changes,
        wrappers=list(row.wrappers),
        vectorization_mode=mode,
        seed=0,
        **{**row.kwargs, **kwargs},
    )


def trains(row: Row) -> str:
    """Train A2C."""
    A2C(make(row), seed=0).learn(STEPS)
    return "yes"


def drifts(row: Row) -> str:
    """Train A2C with a new value of one target after another.

    Return the first target whose training raises no error, or "no".
    """
    targets = [*row.targets]
    if not row.native and not targets:
        env = find_parametrized(make(row, 1).unwrapped.envs[0]).env
        found = [one for one in find_targets(env) if one.parameter is not None]
        # The check does not try elements of arrays, because many of these elements are part of the state.
        found = [one for one in found if "[" not in one.name][:TRIED]
        targets += [one.name for one in found if effect(one) == "yes"]
    for target in [*targets, "observation.noise", "reward.scale"]:
        try:
            value = 5.0 if target == "observation.noise" else None
            if value is None:
                current = make(row, 1, {}).unwrapped
                value = 2.0 if target == "reward.scale" else _changed(row, current, target)
            A2C(make(row, changes={target: value}), seed=0).learn(50)
        except (ValueError, NotImplementedError) as error:
            print(f"{target}: {error}", file=sys.stderr)
            continue
        return f"`{target}`"
    return "no"


def _changed(row: Row, base: Any, target: str) -> float:
    """Return a target's current value plus 1, or times 1.1 if the current value is not a whole number."""
    from rl_rms.envs.parameters import find_parameter
    from rl_rms.envs.parameters.registry import find_owner

    base.reset(seed=0)
    env = find_parametrized(base.envs[0]).env
    parameter = find_parameter(*find_owner(env, target))
    if parameter is None:
        raise ValueError(f"{row.id} has no target {target!r}")
    value = parameter.value(find_owner(env, target)[0])
    return value + 1 if float(value).is_integer() else 1.1 * value


def resumes(row: Row) -> str:
    """Compare the weights of an interrupted and an uninterrupted training run."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agent = A2C(make(row), seed=0).learn(STEPS // 2)
        path = agent.save(Path(folder) / "agent")
        agent.learn(STEPS // 2)
        other = A2C.load(path, make(row)).learn(STEPS // 2)
    pairs = zip(agent.policy.state_dict().values(), other.policy.state_dict().values(), strict=True)
    if all(torch.equal(one, another) for one, another in pairs):
        return "bit-identical"
    said = " ".join(str(one.message) for one in caught)
    if "not restored exactly" in said:
        return "not exactly, with a warning"
    return "new episodes, with a warning" if "cannot be saved" in said else "not identical"


def films(row: Row) -> str:
    """Record one episode."""
    # The time limit adds a wrapper. The video's environment and the training need the same wrappers.
    limit = {} if row.native else {"max_episode_steps": 30}
    with tempfile.TemporaryDirectory() as folder:
        if row.native:
            from rl_rms.envs.atari import as_single
            from rl_rms.envs.config import EnvConfig
            from rl_rms.envs.make import make_from_config

            config = EnvConfig(id=row.id, num_envs=1, vectorization_mode="native")
            single = as_single(config)
            kwargs = {**single.kwargs, "render_mode": "rgb_array", "max_episode_steps": 30}
            env = make_from_config(EnvConfig(**{**vars(single), "kwargs": kwargs}), 0)
        else:
            env = make(row, 1, render_mode="rgb_array", **limit)
        A2C(make(row, **limit), seed=0).learn(10, VideoCallback(env, folder, every=10))
        (video,) = Path(folder).glob("*.mp4")
        return "yes" if video.stat().st_size > 1_000 else "no"


def trains_sb3(row: Row) -> str:
    """Train Stable-Baselines3's A2C."""
    from stable_baselines3 import A2C as SB3A2C

    if row.native:
        return "no: Stable-Baselines3 accepts no vector environments of Gymnasium"
    inside, outside = as_wrappers(list(row.wrappers))
    env = gym.make(row.id, **row.kwargs)
    for wrap in [*inside, *outside]:
        env = wrap(env)
    policy = "MultiInputPolicy" if isinstance(env.observation_space, gym.spaces.Dict) else "MlpPolicy"
    space = env.observation_space
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and min(space.shape[1:]) >= 36:
        policy = "CnnPolicy"
    SB3A2C(policy, env, device="cpu", seed=0).learn(STEPS)
    return "yes"


CELLS: dict[str, Callable[[Row], str]] = {
    "trains": trains,
    "drifts": drifts,
    "resumes": resumes,
    "films": films,
    "Stable-Baselines3 trains": trains_sb3,
}


def run_row(name: str) -> None:
    """Print each cell of a row as a line of JSON."""
    row = ROWS[name]
    torch.set_num_threads(1)
    for cell, measure in CELLS.items():
        try:
            with warnings.catch_warnings():
                if cell != "resumes":
                    warnings.simplefilter("ignore")
                value = measure(row)
        except Exception as error:
            traceback.print_exc()
            value = f"no: {type(error).__name__}"
        print(json.dumps({cell: value}), flush=True)


def versions_of(row: Row) -> str:
    """Return the packages of a row with their versions."""
    return ", ".join(f"{package} {version(package)}" for package in row.packages)


def table(cells: Mapping[str, Mapping[str, str]]) -> str:
    """Format the table in Markdown."""
    head = ["environment", "package", *CELLS]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, row in cells.items():
        env = ROWS[name].id.rpartition(":")[2]
        values = [
            f"{name}: `{env}`",
            row["package"],
            *(row.get(cell, "no: time limit") for cell in CELLS),
        ]
        lines.append(f"| {' | '.join(values)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the rows, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--only", choices=list(ROWS), help=argparse.SUPPRESS)
    folder = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=folder / "compatibility.json")
    parser.add_argument("--page", type=Path, default=Path(__file__).parents[1] / "docs" / "compatibility.md")
    arguments = parser.parse_args()
    if arguments.only is not None:
        run_row(arguments.only)
        return
    cells = json.loads(arguments.output.read_text())["cells"] if arguments.output.exists() else {}
    for name in arguments.rows:
        began = time.perf_counter()
        command = [sys.executable, __file__, "--only", name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        cells[name] = {"package": versions_of(ROWS[name])}
        cells[name] |= {cell: value for line in lines for cell, value in line.items()}
        print(f"{name}: {cells[name]} in {time.perf_counter() - began:.0f} s", flush=True)
    cells = {name: cells[name] for name in ROWS if name in cells}
    main_versions = {package: version(package) for package in ("gymnasium", "stable-baselines3", "numpy")}
    arguments.output.write_text(json.dumps({"versions": main_versions, "cells": cells}, indent=1) + "\n")
    libraries = ", ".join(f"{name} {number}" for name, number in main_versions.items())
    arguments.page.write_text(PAGE.format(libraries=libraries, table=table(cells)))


if __name__ == "__main__":
    main()
