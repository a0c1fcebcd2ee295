"""Returns of A2C, compared with Stable-Baselines3's A2C with the zoo's hyperparameters and with published returns.

Run: python benchmarks/results.py run [--envs ID ...] [--seeds 10] [--agents rl_rms sb3] [--processes 2]
     python benchmarks/results.py try [--envs ID ...] [--seeds 3] [--ours JSON ...] [--processes 2]
     python benchmarks/results.py report

``run`` appends each finished training to benchmarks/results/results_runs.jsonl and skips trainings in the file. It
can be stopped and started again, also with more seeds. ``try`` trains rl_rms with changed hyperparameters and the
seeds from 0, prints the scores and writes nothing, as in ``try --envs Acrobot-v1 --ours '{"lr": 0.002}' '{"lr":
0.004, "num_envs": 32}'``. The recipes of rl_rms were chosen with it. ``report`` computes
benchmarks/results/results.md from the file; it needs the extra ``plots``.

Both agents train for the env steps of the zoo. The deterministic policy plays 20 episodes in separate environments
at ten times during training, and 100 at the end. A score is the mean return of the last evaluation. A table's row
has the interquartile mean of the scores over seeds and its stratified bootstrap interval of 95 %, as rliable
computes them. A late collapse is a seed whose score is below the midpoint between a random policy's return and its
best evaluation. Stable-Baselines3 has the hyperparameters of a2c.yml in rl_zoo3 2.9.2. The seeds of the table
differ from those of ``try``.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from rl_rms.agents import A2C, EvalCallback, PolicyConfig, evaluate
from rl_rms.envs.schedules import Linear
from rl_rms.studies.intervals import interquartile_mean

HERE = Path(__file__).parent
RUNS = HERE / "results" / "results_runs.jsonl"
TABLE = HERE / "results" / "results.md"
NUM_EVALUATIONS, EPISODES, LAST_EPISODES = 10, 20, 100
EVAL_ENVS = 10
# The recipes of rl_rms were chosen with the seeds from 0.
FIRST_SEED = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """Settings of both agents on an environment.

    Attributes:
        steps: Env steps.
        num_envs: Number of environments of rl_rms.
        ours: Arguments of rl_rms. ``lr`` and ``ent`` are the start values of a learning rate and an entropy
            coefficient that fall linearly to 0.
        zoo: The zoo's entry, with ``n_envs``, ``normalize`` and ``lin`` for its linear learning rates.
        random: Mean return of random actions over 200 episodes, seed 0.
        published: The zoo's score of one run, and Tianshou's best evaluation at 1M env steps if there is one.
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
_NORMALIZED = {"normalize_observation": True, "normalize_reward": True}

RECIPES = {
    "CartPole-v1": Recipe(
        500_000, 16, {"lr": 4e-3, "n_steps": 8, "gae_lambda": 0.95}, {"n_envs": 8}, 22.5, "500 (zoo)"
    ),
    "Acrobot-v1": Recipe(
        500_000,
        16,
        {"lr": 1e-3, "n_steps": 8, "gae_lambda": 0.95, **_NORMALIZED},
        {"n_envs": 16, "normalize": True},
        -499.9,
        "-83.4 (zoo)",
    ),
    "MountainCar-v0": Recipe(
        1_000_000,
        8,
        {"lr": 4e-3, "n_steps": 16, "gae_lambda": 0.95, "ent_coef": 0.01, **_NORMALIZED},
        {"n_envs": 16, "normalize": True},
        -200.0,
        "-111.3 (zoo)",
    ),
    "Pendulum-v1": Recipe(
        1_000_000,
        8,
        {"lr": 2e-3, "n_steps": 8, "gamma": 0.9, "gae_lambda": 0.9, "ent_coef": 1e-3, **_NORMALIZED},
        {**_TUNED, "n_envs": 8, "gamma": 0.9, "lin": 7e-4, "policy_kwargs": _SDE},
        -1_226.9,
        "-163.0 (zoo)",
    ),
    "LunarLander-v3": Recipe(
        200_000,
        8,
        {"lr": 2e-3, "n_steps": 8, "gamma": 0.999, "gae_lambda": 0.98, "ent_coef": 0.05, **_NORMALIZED},
        {"n_envs": 8, "gamma": 0.995, "n_steps": 5, "lin": 8.3e-4, "ent_coef": 1e-5},
        -181.5,
        "155.8 (zoo, LunarLander-v2)",
    ),
    "LunarLanderContinuous-v3": Recipe(
        5_000_000,
        8,
        {"lr": 5e-4, "n_steps": 16, "gamma": 0.999, "gae_lambda": 0.98, "ent": 0.02, **_NORMALIZED},
        {**_TUNED, "n_envs": 4, "gamma": 0.99, "lin": 7e-4, "policy_kwargs": _SDE},
        -201.3,
        "84.2 (zoo, LunarLanderContinuous-v2)",
    ),
    "BipedalWalker-v3": Recipe(
        5_000_000,
        16,
        {"lr": 1e-3, "n_steps": 16, "gamma": 0.99, "gae_lambda": 0.95, "vf_coef": 0.4, **_NORMALIZED},
        {**_TUNED, "n_envs": 16, "gamma": 0.99, "lin": 9.6e-4, "policy_kwargs": _SDE},
        -103.0,
        "299.8 (zoo)",
        {"log_std_init": -1.0},
    ),
    "InvertedDoublePendulum-v5": Recipe(
        1_000_000,
        8,
        {"lr": 2e-3, "n_steps": 16, "gae_lambda": 0.95, **_NORMALIZED},
        _UNTUNED,
        48.1,
        "9257.7 (Tianshou, -v3)",
    ),
    "Hopper-v5": Recipe(
        1_000_000,
        8,
        {"lr": 2e-3, "n_steps": 16, "gae_lambda": 0.95, **_NORMALIZED},
        _UNTUNED,
        17.8,
        "733.5 (zoo, -v3), 1253.2 (Tianshou, -v3)",
    ),
    "HalfCheetah-v5": Recipe(
        1_000_000,
        8,
        {"lr": 2e-3, "n_steps": 16, "gae_lambda": 0.95, **_NORMALIZED},
        _UNTUNED,
        -289.3,
        "3041.2 (zoo, -v3), 1829.9 (Tianshou, -v3)",
    ),
}


def make_vec(id: str, num_envs: int) -> gym.vector.VectorEnv:
    """Make the vector implementation of an environment if it has one, else a SyncVectorEnv."""
    spec = gym.spec(id)
    mode = "vector_entry_point" if spec.vector_entry_point is not None else "sync"
    return gym.make_vec(id, num_envs, vectorization_mode=mode)


def train_ours(id: str, seed: int, recipe: Recipe) -> tuple[list[float], list[float]]:
    """Train rl_rms; return the mean returns of the evaluations during training and all returns of the last one."""
    options = dict(recipe.ours)
    steps = recipe.steps
    falling = {"lr": "learning_rate", "ent": "ent_coef"}
    for short, name in falling.items():
        if short in options:
            options[name] = Linear(start=options.pop(short), end=0.0, over=steps)
    agent = A2C(
        make_vec(id, recipe.num_envs),
        policy=PolicyConfig(**recipe.policy),
        seed=seed,
        device="cpu",
        **options,
    )
    callback = EvalCallback(make_vec(id, EVAL_ENVS), every=steps // NUM_EVALUATIONS, episodes=EPISODES)
    agent.learn(steps, callback, log_interval=steps)
    on_the_way = [result.evaluation.mean_reward for result in callback.results]
    last = evaluate(agent, make_vec(id, EVAL_ENVS), LAST_EPISODES, seed=1_000 + seed)
    return on_the_way, last.returns.tolist()


def train_theirs(id: str, seed: int, recipe: Recipe) -> tuple[list[float], list[float]]:
    """Train Stable-Baselines3; return the same values as `train_ours`."""
    import stable_baselines3
    from stable_baselines3.common.callbacks import EvalCallback as TheirEvalCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

    options = dict(recipe.zoo)
    steps = recipe.steps
    num_envs, normalize = options.pop("n_envs"), options.pop("normalize", False)
    start = options.pop("lin", None)
    if start is not None:
        options["learning_rate"] = lambda remaining: start * remaining
    options["policy_kwargs"] = dict(options.get("policy_kwargs", {}))

    def make_env(count: int, env_seed: int, *, training: bool) -> VecEnv:
        env: VecEnv = make_vec_env(id, count, seed=env_seed)
        if normalize:
            discount = options.get("gamma", 0.99)
            env = VecNormalize(env, gamma=discount, training=training, norm_reward=training)
        return env

    env, eval_env = make_env(num_envs, seed, training=True), make_env(EVAL_ENVS, 1_000 + seed, training=False)
    model = stable_baselines3.A2C("MlpPolicy", env, seed=seed, device="cpu", **options)
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


TRAIN = {"rl_rms": train_ours, "sb3": train_theirs}


# -- running ----------------------------------------------------------------------------------------------


def read() -> dict[tuple[str, str, int], tuple[list[float], list[float]]]:
    """Read the finished trainings by environment, agent and seed."""
    found = {}
    if RUNS.exists():
        for line in RUNS.read_text().splitlines():
            id, agent, seed, on_the_way, last = json.loads(line)
            found[id, agent, seed] = on_the_way, last
    return found


def one(id: str, agent: str, seed: int) -> str:
    """Train one agent, append its returns to the file and return a line of text."""
    torch.set_num_threads(1)
    on_the_way, last = ([round(score, 2) for score in scores] for scores in TRAIN[agent](id, seed, RECIPES[id]))
    with RUNS.open("a") as file:
        file.write(json.dumps([id, agent, seed, on_the_way, last], separators=(",", ":")) + "\n")
    return f"{id} {agent} seed {seed}: {statistics.fmean(last):.1f}, on the way {on_the_way}"


def run(ids: list[str], agents: list[str], seeds: int, processes: int) -> None:
    """Run all missing trainings in parallel processes."""
    done = read()
    wanted = [
        (id, agent, seed) for id in ids for seed in range(FIRST_SEED, FIRST_SEED + seeds) for agent in agents
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


def attempt(id: str, seed: int, changes: Mapping[str, Any]) -> tuple[float, list[float]]:
    """Train rl_rms with a changed recipe; return its score and the mean returns during training."""
    torch.set_num_threads(1)
    on_the_way, last = train_ours(id, seed, changed(RECIPES[id], changes))
    return statistics.fmean(last), on_the_way


def try_out(ids: list[str], all_changes: list[Mapping[str, Any]], seeds: int, processes: int) -> None:
    """Print the scores of every change on every environment."""
    with ProcessPoolExecutor(processes) as pool:
        futures = {
            (id, i): [pool.submit(attempt, id, seed, changes) for seed in range(seeds)]
            for id in ids
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
    """Count the runs whose score is below the midpoint of a random policy's return and their best evaluation."""
    return sum(statistics.fmean(last) < random + 0.5 * (max(on_the_way) - random) for on_the_way, last in runs)


def report() -> None:
    """Write and print the table."""
    found: dict[tuple[str, str], list[tuple[list[float], list[float]]]] = defaultdict(list)
    for (id, agent, _), scores in sorted(read().items()):
        found[id, agent].append(scores)
    lines = [
        "# Returns of A2C",
        "",
        "`python benchmarks/results.py run`, then `python benchmarks/results.py report`; raw returns in "
        "results_runs.jsonl. Interquartile mean of the seeds' scores (the mean return of 100 episodes of the "
        "final deterministic policy), its 95 % interval, number of seeds, and late collapses.",
        "",
        "| environment | env steps | rl_rms | Stable-Baselines3, zoo | published |",
        "|---|---:|---:|---:|---:|",
    ]
    for id, recipe in RECIPES.items():
        cells = []
        for agent in TRAIN:
            runs = found[id, agent]
            if not runs:
                cells.append("not run")
                continue
            middle, low, high = interquartile_mean(np.array([statistics.fmean(last) for _, last in runs]))
            fell = collapses(runs, recipe.random)
            cells.append(f"{middle:.1f} ({low:.1f} to {high:.1f}), {len(runs)} seeds, {fell} fell")
        lines.append(f"| {id} | {recipe.steps:,} | {' | '.join(cells)} | {recipe.published} |")
    TABLE.write_text("\n".join(lines) + "\n")
    print(TABLE.read_text())


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "try", "report"))
    parser.add_argument("--envs", nargs="*", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--agents", nargs="*", choices=list(TRAIN), default=list(TRAIN))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ours", nargs="*", type=json.loads, default=[{}])
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.what == "try":
        try_out(arguments.envs, arguments.ours, arguments.seeds, arguments.processes)
    elif arguments.what == "run":
        run(arguments.envs, arguments.agents, arguments.seeds, arguments.processes)
    else:
        report()


if __name__ == "__main__":
    main()
