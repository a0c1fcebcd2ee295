"""Returns of A2C and PPO in stationary environments, compared with Stable-Baselines3 and with published returns.

Run: python benchmarks/results.py run [--envs ID ...] [--seeds 10] [--agents "rl_rms PPO" ...] [--processes 2]
     python benchmarks/results.py try [--algorithm PPO] [--envs ID ...] [--seeds 3] [--ours JSON ...]
     python benchmarks/results.py report

``run`` appends each finished training run to benchmarks/results/results_runs.jsonl and skips training runs in the
file. You can stop and restart ``run``, also with other ``--seeds``. ``try`` trains rl_rms with changed
hyperparameters and the seeds from 0, prints the scores and writes nothing, as in ``try --envs Acrobot-v1 --ours
'{"lr": 0.002}' '{"lr": 0.004, "num_envs": 32}'``. The hyperparameters of rl_rms were chosen with ``try``.
``report`` writes benchmarks/results/results.md from the file, and needs the extra ``plots``.

Both libraries train for the number of env steps in RL Baselines3 Zoo. The deterministic policy plays 20 episodes
in separate environments at ten times during training, and 100 episodes at the end. A score is the mean return of
the last evaluation. A row of the table has the interquartile mean of the scores over seeds and its 95 % stratified
bootstrap interval, both computed by rliable. With fewer than three seeds, the row has only the mean. A seed fell
if its score is below the midpoint between the return of a random policy and the best evaluation of the seed during
training. Stable-Baselines3 uses the hyperparameters of a2c.yml and ppo.yml in rl_zoo3 2.9.2. The table and ``try``
use different seeds.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import rl_rms.agents
from rl_rms.agents import EvalCallback, PolicyConfig, evaluate
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Linear
from rl_rms.studies.intervals import interquartile_mean

HERE = Path(__file__).parent
RUNS = HERE / "results" / "results_runs.jsonl"
TABLE = HERE / "results" / "results.md"
NUM_EVALUATIONS, EPISODES, LAST_EPISODES = 10, 20, 100
EVAL_ENVS = 10
# The hyperparameters of rl_rms were chosen with other seeds, which start at 0.
FIRST_SEED = 100
# Fewer seeds have no interval.
_FEWEST_SEEDS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """Settings of both agents on an environment.

    Attributes:
        steps: Env steps.
        num_envs: Number of environments of rl_rms.
        ours: Arguments of rl_rms; ``ent_coef`` is 0 by default. ``lr``, ``ent`` and ``clip`` are the start values
            of a learning rate, an entropy coefficient and a clip range that fall linearly to 0.
        zoo: The zoo's entry, with ``n_envs``, ``normalize``, and ``lin`` and ``lin_clip`` for its linear learning
            rates and clip ranges.
        random: Mean return of random actions over 200 episodes, seed 0.
        published: The zoo's score of one run, Tianshou's best evaluation at 1M env steps, or both.
        policy: Arguments of rl_rms's `PolicyConfig`.
    """

    steps: int
    num_envs: int
    ours: Mapping[str, Any]
    zoo: Mapping[str, Any]
    random: float
    published: str
    policy: Mapping[str, Any] = field(default_factory=dict)


_TUNED = {"n_steps": 8, "gae_lambda": 0.9, "vf_coef": 0.4, "use_sde": True, "normalize": True}
_SDE = {"log_std_init": -2.0, "ortho_init": False}
_UNTUNED = {"normalize": True, "n_envs": 1}

A2C_RECIPES = {
    "CartPole-v1": Recipe(
        500_000, 16, {"lr": 4e-3, "n_steps": 8, "gae_lambda": 0.95}, {"n_envs": 8}, 22.5, "500 (zoo)"
    ),
    "Acrobot-v1": Recipe(
        500_000,
        16,
        {"lr": 1e-3, "n_steps": 8, "gae_lambda": 0.95},
        {"n_envs": 16, "normalize": True},
        -499.9,
        "-83.4 (zoo)",
    ),
    "MountainCar-v0": Recipe(
        1_000_000,
        8,
        {"lr": 4e-3, "n_steps": 16, "gae_lambda": 0.95, "ent_coef": 0.01},
        {"n_envs": 16, "normalize": True},
        -200.0,
        "-111.3 (zoo)",
    ),
    "Pendulum-v1": Recipe(
        1_000_000,
        8,
        {"lr": 2e-3, "n_steps": 8, "gamma": 0.95, "gae_lambda": 0.9, "ent_coef": 1e-3},
        {**_TUNED, "n_envs": 8, "gamma": 0.9, "lin": 7e-4, "policy_kwargs": _SDE},
        -1_226.9,
        "-163.0 (zoo)",
    ),
    "LunarLander-v3": Recipe(
        200_000,
        8,
        {"lr": 2e-3, "n_steps": 8, "gamma": 0.999, "gae_lambda": 0.98, "ent_coef": 0.05},
        {"n_envs": 8, "gamma": 0.995, "n_steps": 5, "lin": 8.3e-4, "ent_coef": 1e-5},
        -181.5,
        "155.8 (zoo, LunarLander-v2)",
    ),
    "LunarLanderContinuous-v3": Recipe(
        5_000_000,
        8,
        {"lr": 5e-4, "n_steps": 16, "gamma": 0.999, "gae_lambda": 0.98, "ent": 0.02},
        {**_TUNED, "n_envs": 4, "gamma": 0.99, "lin": 7e-4, "policy_kwargs": _SDE},
        -201.3,
        "84.2 (zoo, LunarLanderContinuous-v2)",
    ),
    "BipedalWalker-v3": Recipe(
        5_000_000,
        16,
        {"lr": 1e-3, "n_steps": 16, "gamma": 0.99, "gae_lambda": 0.95, "vf_coef": 0.4},
        {**_TUNED, "n_envs": 16, "gamma": 0.99, "lin": 9.6e-4, "policy_kwargs": _SDE},
        -103.0,
        "299.8 (zoo)",
        {"log_std_init": -1.0},
    ),
    "InvertedDoublePendulum-v5": Recipe(
        1_000_000,
        8,
        {"lr": 2e-3, "n_steps": 16, "gae_lambda": 0.95},
        _UNTUNED,
        48.1,
        "9257.7 (Tianshou, -v3)",
    ),
    "Hopper-v5": Recipe(
        1_000_000,
        8,
        {"lr": 2e-3, "n_steps": 16, "gae_lambda": 0.95},
        _UNTUNED,
        17.8,
        "733.5 (zoo, -v3), 1253.2 (Tianshou, -v3)",
    ),
    "HalfCheetah-v5": Recipe(
        1_000_000,
        8,
        {"lr": 2e-3, "n_steps": 16, "gae_lambda": 0.95},
        _UNTUNED,
        -289.3,
        "3041.2 (zoo, -v3), 1829.9 (Tianshou, -v3)",
    ),
}

_SHORT_HORIZON = {"gamma": 0.98, "gae_lambda": 0.8}
_LANDER = {"gamma": 0.999, "gae_lambda": 0.98, "ent_coef": 0.01}

PPO_RECIPES = {
    "CartPole-v1": Recipe(
        100_000,
        8,
        {"lr": 1e-3},
        {
            "n_envs": 8,
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 20,
            "lin": 1e-3,
            "lin_clip": 0.2,
            **_SHORT_HORIZON,
        },
        22.5,
        "500 (zoo)",
    ),
    "Acrobot-v1": Recipe(
        1_000_000,
        16,
        {"lr": 1e-3, "n_steps": 32, "batch_size": 128, "n_epochs": 4, "gae_lambda": 0.94},
        {"n_envs": 16, "normalize": True, "n_steps": 256, "n_epochs": 4, "gae_lambda": 0.94},
        -499.9,
        "-73.5 (zoo)",
    ),
    "MountainCar-v0": Recipe(
        1_000_000,
        16,
        {"lr": 1e-3, "n_steps": 16, "batch_size": 64, "n_epochs": 4, "gae_lambda": 0.98},
        {"n_envs": 16, "normalize": True, "n_steps": 16, "n_epochs": 4, "gae_lambda": 0.98},
        -200.0,
        "-110.4 (zoo)",
    ),
    "Pendulum-v1": Recipe(
        100_000,
        4,
        {"lr": 2e-3, "n_steps": 1024, "n_epochs": 10, "gamma": 0.95, "normalize_observation": False},
        {
            "n_envs": 4,
            "n_steps": 1024,
            "gamma": 0.9,
            "learning_rate": 1e-3,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
        -1_226.9,
        "-172.2 (zoo)",
    ),
    "LunarLander-v3": Recipe(
        1_000_000,
        16,
        {
            "lr": 1e-3,
            "n_steps": 512,
            "batch_size": 128,
            "n_epochs": 4,
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "ent_coef": 0.01,
        },
        {"n_envs": 16, "n_steps": 1024, "n_epochs": 4, **_LANDER},
        -181.5,
        "242.1 (zoo, LunarLander-v2)",
    ),
}
RECIPES = {"A2C": A2C_RECIPES, "PPO": PPO_RECIPES}
ENVS = list(A2C_RECIPES)


def train_ours(algorithm: str, id: str, seed: int, recipe: Recipe) -> tuple[list[float], list[float]]:
    """Train rl_rms; return mean returns of evaluations during training, and all returns of the last evaluation."""
    options = {"ent_coef": 0.0, **recipe.ours}
    steps = recipe.steps
    falling = {"lr": "learning_rate", "ent": "ent_coef", "clip": "clip_range"}
    for short, name in falling.items():
        if short in options:
            options[name] = Linear(start=options.pop(short), end=0.0, over=steps)
    agent = getattr(rl_rms.agents, algorithm)(
        make_vec(id, recipe.num_envs, {}),
        policy=PolicyConfig(**recipe.policy),
        seed=seed,
        device="cpu",
        **options,
    )
    callback = EvalCallback(make_vec(id, EVAL_ENVS, {}), every=steps // NUM_EVALUATIONS, episodes=EPISODES)
    agent.learn(steps, callback, log_interval=steps)
    on_the_way = [result.evaluation.mean_reward for result in callback.results]
    last = evaluate(agent, make_vec(id, EVAL_ENVS, {}), LAST_EPISODES, seed=1_000 + seed)
    return on_the_way, last.returns.tolist()


def linear(start: float) -> Callable[[float], float]:
    """Make a schedule of Stable-Baselines3 that falls linearly to 0."""
    return lambda remaining: start * remaining


def train_theirs(algorithm: str, id: str, seed: int, recipe: Recipe) -> tuple[list[float], list[float]]:
    """Train Stable-Baselines3; return the same kinds of returns as `train_ours`."""
    import stable_baselines3
    from stable_baselines3.common.callbacks import EvalCallback as TheirEvalCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

    options = dict(recipe.zoo)
    steps = recipe.steps
    num_envs, normalize = options.pop("n_envs"), options.pop("normalize", False)
    for short, name in {"lin": "learning_rate", "lin_clip": "clip_range"}.items():
        if short in options:
            options[name] = linear(options.pop(short))
    options["policy_kwargs"] = dict(options.get("policy_kwargs", {}))

    def make_env(count: int, env_seed: int, *, training: bool) -> VecEnv:
        env: VecEnv = make_vec_env(id, count, seed=env_seed)
        if normalize:
            discount = options.get("gamma", 0.99)
            env = VecNormalize(env, gamma=discount, training=training, norm_reward=training)
        return env

    env, eval_env = make_env(num_envs, seed, training=True), make_env(EVAL_ENVS, 1_000 + seed, training=False)
    model = getattr(stable_baselines3, algorithm)("MlpPolicy", env, seed=seed, device="cpu", **options)
    with tempfile.TemporaryDirectory() as folder:
        callback = TheirEvalCallback(
            eval_env,
            n_eval_episodes=EPISODES,
            eval_freq=max(1, steps // NUM_EVALUATIONS // num_envs),
            log_path=folder,
            verbose=0,
        )
        model.learn(steps, callback)
        on_the_way = np.load(Path(folder) / "evaluations.npz")["results"].mean(1).tolist()
    if normalize:
        sync_envs_normalization(env, eval_env)
    returns, _ = evaluate_policy(model, eval_env, LAST_EPISODES, return_episode_rewards=True)
    return on_the_way, list(map(float, returns))


AGENTS = {
    "rl_rms": ("A2C", train_ours),
    "sb3": ("A2C", train_theirs),
    "rl_rms PPO": ("PPO", train_ours),
    "sb3 PPO": ("PPO", train_theirs),
}


# -- running ----------------------------------------------------------------------------------------------


def read() -> dict[tuple[str, str, int], tuple[list[float], list[float]]]:
    """Read the finished training runs by environment, agent and seed."""
    found = {}
    if RUNS.exists():
        for line in RUNS.read_text().splitlines():
            id, agent, seed, on_the_way, last = json.loads(line)
            found[id, agent, seed] = on_the_way, last
    return found


def one(id: str, agent: str, seed: int) -> str:
    """Train one agent, append its returns to the file and return a line of text."""
    torch.set_num_threads(1)
    algorithm, train = AGENTS[agent]
    scores = train(algorithm, id, seed, RECIPES[algorithm][id])
    on_the_way, last = ([round(score, 2) for score in part] for part in scores)
    with RUNS.open("a") as file:
        file.write(json.dumps([id, agent, seed, on_the_way, last], separators=(",", ":")) + "\n")
    return f"{id} {agent} seed {seed}: {statistics.fmean(last):.1f}, on the way {on_the_way}"


def run(ids: list[str], agents: list[str], seeds: int, processes: int) -> None:
    """Do all missing training runs in parallel processes."""
    done = read()
    wanted = [
        (id, agent, seed)
        for id in ids
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
        for agent in agents
        if id in RECIPES[AGENTS[agent][0]]
    ]
    with ProcessPoolExecutor(processes) as pool:
        for future in [pool.submit(one, *which) for which in wanted if which not in done]:
            print(future.result(), flush=True)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Change the hyperparameters of rl_rms in a recipe.

    Args:
        recipe: The recipe.
        changes: Arguments of rl_rms, or ``num_envs``, ``policy`` and ``steps`` of the recipe.
    """
    ours = {key: value for key, value in changes.items() if key not in ("num_envs", "policy", "steps")}
    its_own = {key: value for key, value in changes.items() if key not in ours}
    return dataclasses.replace(recipe, ours={**recipe.ours, **ours}, **its_own)


def attempt(algorithm: str, id: str, seed: int, changes: Mapping[str, Any]) -> tuple[float, list[float]]:
    """Train rl_rms with a changed recipe; return its score and the mean returns during training."""
    torch.set_num_threads(1)
    on_the_way, last = train_ours(algorithm, id, seed, changed(RECIPES[algorithm][id], changes))
    return statistics.fmean(last), on_the_way


def try_out(
    algorithm: str, ids: list[str], all_changes: list[Mapping[str, Any]], seeds: int, processes: int
) -> None:
    """Print the scores of every change on every environment."""
    with ProcessPoolExecutor(processes) as pool:
        futures = {
            (id, i): [pool.submit(attempt, algorithm, id, seed, changes) for seed in range(seeds)]
            for id in ids
            if id in RECIPES[algorithm]
            for i, changes in enumerate(all_changes)
        }
        for (id, i), parts in futures.items():
            scores = [part.result() for part in parts]
            means = np.mean([on_the_way for _, on_the_way in scores], axis=0)
            print(
                f"{id} {json.dumps(all_changes[i])}: mean {statistics.fmean(last for last, _ in scores):.1f}, "
                f"of {', '.join(f'{last:.1f}' for last, _ in scores)}; "
                f"on the way {', '.join(f'{mean:.0f}' for mean in means)}",
                flush=True,
            )


# -- reporting --------------------------------------------------------------------------------------------


def collapses(runs: list[tuple[list[float], list[float]]], random: float) -> int:
    """Count the runs whose score is below the midpoint of a random policy's return and the best evaluation."""
    return sum(statistics.fmean(last) < random + 0.5 * (max(on_the_way) - random) for on_the_way, last in runs)


def _cell(runs: list[tuple[list[float], list[float]]], random: float) -> str:
    """Format the scores of an agent as a table cell."""
    if not runs:
        return "not run"
    scores = np.array([statistics.fmean(last) for _, last in runs])
    if len(runs) < _FEWEST_SEEDS:
        middle = f"{scores.mean():.1f}, {len(runs)} seed{'s' if len(runs) > 1 else ''}"
    else:
        mean, low, high = interquartile_mean(scores)
        middle = f"{mean:.1f} ({low:.1f} to {high:.1f}), {len(runs)} seeds"
    return f"{middle}, {collapses(runs, random)} fell"


def report() -> None:
    """Write and print the table."""
    found: dict[tuple[str, str], list[tuple[list[float], list[float]]]] = defaultdict(list)
    for (id, agent, _), scores in sorted(read().items()):
        found[id, agent].append(scores)
    lines = [
        "# Returns in stationary environments",
        "",
        "`python benchmarks/results.py run` trains the agents, and `python benchmarks/results.py report` writes "
        "this page. The raw returns are in results_runs.jsonl. The score of a seed is the mean return of 100 "
        "episodes of the final deterministic policy. A cell contains the interquartile mean of the scores with "
        "its 95 % interval, the number of seeds, and the number of seeds that fell. With fewer than "
        f"{_FEWEST_SEEDS} seeds, the cell contains the mean without an interval. A seed fell if its score is "
        "below the midpoint between the return of a random policy and the best evaluation of the seed during "
        "training.",
    ]
    for algorithm, recipes in RECIPES.items():
        lines += [
            "",
            f"## {algorithm}",
            "",
            "| environment | env steps | rl_rms | Stable-Baselines3, zoo | published |",
            "|---|---:|---:|---:|---:|",
        ]
        agents = [name for name, (its_algorithm, _) in AGENTS.items() if its_algorithm == algorithm]
        for id, recipe in recipes.items():
            cells = [_cell(found[id, agent], recipe.random) for agent in agents]
            lines.append(f"| {id} | {recipe.steps:,} | {' | '.join(cells)} | {recipe.published} |")
    TABLE.write_text("\n".join(lines) + "\n")
    print(TABLE.read_text())


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "try", "report"))
    parser.add_argument("--envs", nargs="*", choices=ENVS, default=ENVS)
    parser.add_argument("--agents", nargs="*", choices=list(AGENTS), default=list(AGENTS))
    parser.add_argument("--algorithm", choices=list(RECIPES), default="A2C")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ours", nargs="*", type=json.loads, default=[{}])
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.what == "try":
        try_out(arguments.algorithm, arguments.envs, arguments.ours, arguments.seeds, arguments.processes)
    elif arguments.what == "run":
        run(arguments.envs, arguments.agents, arguments.seeds, arguments.processes)
    else:
        report()


if __name__ == "__main__":
    main()
