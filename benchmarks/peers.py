"""Env steps per CPU second of training on CartPole in rl_rms and in other libraries.

Run: make peers, which builds a separate virtual environment; or python benchmarks/peers.py [--rounds 7]

All agents have rollouts of 5 steps, and make one optimizer step on all transitions of a rollout. The actor and the
critic have two layers of 64 tanh units each. No agent normalizes observations or rewards. Other hyperparameters,
such as the learning rate, may differ. Env steps are divided by the CPU time of all threads. Compilation is not
included. Each round measures all agents in turn. The table shows the median speed of each agent. In each round,
the speed of rl_rms in the native environment is divided by the speed of each other agent. The table shows the
medians and quartiles of these ratios over rounds.

- rl_rms: A2C in Gymnasium's native vector environment, which `make_vec` chooses, and in a SyncVectorEnv
- Stable-Baselines3: A2C in a DummyVecEnv
- loop in the style of CleanRL: one function with torch's modules and a SyncVectorEnv
- skrl: A2C with its SequentialTrainer and a SyncVectorEnv; its optimizer is Adam
- SBX, which uses JAX: PPO with one epoch and one minibatch in a DummyVecEnv, because SBX has no A2C
- gymnax: the training loop and the environments as one compiled function in JAX

The benchmark needs Stable-Baselines3, and skips the other libraries if they are not installed.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# JAX reads this variable only once, so the variable is set before JAX is imported.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import gymnasium as gym
import stable_baselines3
import torch
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from rl_rms.agents import A2C
from rl_rms.envs import make_vec

ENV_ID, N_STEPS, HIDDEN = "CartPole-v1", 5, 64
GAMMA, VF_COEF, MAX_GRAD_NORM, LEARNING_RATE = 0.99, 0.5, 0.5, 7e-4
NUM_ENVS = (1, 16, 64, 1_024)
# A measurement takes at least half of these CPU seconds.
SECONDS = 0.5
OURS = "rl_rms, native"
Train = Callable[[int], object]


def sync(num_envs: int) -> SyncVectorEnv:
    """Make Gymnasium's SyncVectorEnv."""
    return SyncVectorEnv([lambda: gym.make(ENV_ID)] * num_envs)


def rl_rms_native(num_envs: int) -> Train:
    """Make A2C of rl_rms in the default vector environment of `make_vec`."""
    options: dict[str, Any] = {"normalize_observation": False, "normalize_reward": False, "ent_coef": 0.0}
    return A2C(make_vec(ENV_ID, num_envs), n_steps=N_STEPS, seed=0, device="cpu", **options).learn


def rl_rms_sync(num_envs: int) -> Train:
    """Make A2C of rl_rms in a SyncVectorEnv."""
    options: dict[str, Any] = {"normalize_observation": False, "normalize_reward": False, "ent_coef": 0.0}
    return A2C(sync(num_envs), n_steps=N_STEPS, seed=0, device="cpu", **options).learn


def sb3(num_envs: int) -> Train:
    """Make A2C of Stable-Baselines3."""
    model = stable_baselines3.A2C("MlpPolicy", make_vec_env(ENV_ID, num_envs, seed=0), device="cpu")
    return lambda steps: model.learn(steps, reset_num_timesteps=False)


def sbx(num_envs: int) -> Train:
    """Make PPO of SBX with one epoch and the whole rollout as one minibatch."""
    from sbx import PPO

    env = make_vec_env(ENV_ID, num_envs, seed=0)
    model = PPO("MlpPolicy", env, n_steps=N_STEPS, batch_size=N_STEPS * num_envs, n_epochs=1)
    return lambda steps: model.learn(steps, reset_num_timesteps=False)


def network(outputs: int) -> nn.Sequential:
    """Make an actor or a critic in torch."""
    hidden = [nn.Linear(4, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(HIDDEN, outputs))


def cleanrl(num_envs: int) -> Train:
    """Make a training loop in one function, as in CleanRL's scripts."""
    env, actor, critic = sync(num_envs), network(2), network(1)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.RMSprop(parameters, LEARNING_RATE, alpha=0.99, eps=1e-5)
    shape = (N_STEPS, num_envs)
    observations, actions = torch.zeros(*shape, 4), torch.zeros(shape)
    rewards, dones = torch.zeros(shape), torch.zeros(shape)
    state = {"observation": torch.as_tensor(env.reset(seed=0)[0])}

    def train(steps: int) -> None:
        for _ in range(max(1, steps // (N_STEPS * num_envs))):
            observation = state["observation"]
            for t in range(N_STEPS):
                observations[t] = observation
                with torch.no_grad():
                    action = torch.distributions.Categorical(logits=actor(observation)).sample()
                actions[t] = action
                following, reward, terminated, truncated, _ = env.step(action.numpy())
                rewards[t] = torch.as_tensor(reward)
                dones[t] = torch.as_tensor(terminated | truncated).float()
                observation = torch.as_tensor(following)
            state["observation"] = observation
            values = critic(observations).squeeze(-1)
            with torch.no_grad():
                following_return = critic(observation).squeeze(-1)
                returns = torch.zeros(shape)
                for t in reversed(range(N_STEPS)):
                    returns[t] = following_return = rewards[t] + GAMMA * following_return * (1.0 - dones[t])
                advantages = returns - values
            log_probs = torch.distributions.Categorical(logits=actor(observations)).log_prob(actions)
            loss = -(advantages * log_probs).mean() + VF_COEF * (returns - values).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
            optimizer.step()

    return train


def skrl(num_envs: int) -> Train:
    """Make A2C of skrl."""
    from skrl import logger
    from skrl.agents.torch import a2c
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
    from skrl.trainers.torch import SequentialTrainer

    logger.setLevel("ERROR")
    env = wrap_env(sync(num_envs), verbose=False)

    class Policy(CategoricalMixin, Model):  # type: ignore[misc]
        def __init__(self, **spaces: Any) -> None:
            Model.__init__(self, **spaces)
            CategoricalMixin.__init__(self)
            self.network = network(2)

        def compute(self, inputs: Any, role: str = "") -> Any:
            return self.network(inputs["observations"]), {}

    class Value(DeterministicMixin, Model):  # type: ignore[misc]
        def __init__(self, **spaces: Any) -> None:
            Model.__init__(self, **spaces)
            DeterministicMixin.__init__(self)
            self.network = network(1)

        def compute(self, inputs: Any, role: str = "") -> Any:
            return self.network(inputs["observations"]), {}

    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    agent = a2c.A2C(
        models={"policy": Policy(**spaces), "value": Value(**spaces)},
        memory=RandomMemory(memory_size=N_STEPS, num_envs=num_envs, device="cpu"),
        cfg={"rollouts": N_STEPS, "experiment": {"write_interval": 0, "checkpoint_interval": 0}},
        **spaces,
    )

    def train(steps: int) -> None:
        cfg = {"timesteps": max(1, steps // num_envs), "headless": True, "disable_progressbar": True}
        trainer = SequentialTrainer(env=env, agents=agent, cfg={**cfg, "close_environment_at_exit": False})
        trainer.train()

    return train


def gymnax(num_envs: int) -> Train:
    """Make a function that JAX compiles, with environments, rollouts and updates."""
    import gymnax as gymnax_library
    import jax
    import jax.numpy as jnp
    import optax

    env, settings = gymnax_library.make(ENV_ID)
    optimizer = optax.chain(
        optax.clip_by_global_norm(MAX_GRAD_NORM), optax.rmsprop(LEARNING_RATE, decay=0.99, eps=1e-5)
    )

    def layers(key: Any, outputs: int) -> list[Any]:
        sizes = ((4, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, outputs))
        keys = jax.random.split(key, len(sizes))
        return [
            (jax.random.normal(one, size) / size[0] ** 0.5, jnp.zeros(size[1]))
            for one, size in zip(keys, sizes, strict=True)
        ]

    def apply(weights: Any, inputs: Any) -> Any:
        for weight, bias in weights[:-1]:
            inputs = jnp.tanh(inputs @ weight + bias)
        return inputs @ weights[-1][0] + weights[-1][1]

    def step(carry: Any, _: Any) -> Any:
        weights, states, observations, key = carry
        key, act_key, step_key = jax.random.split(key, 3)
        actions = jax.random.categorical(act_key, apply(weights["actor"], observations))
        following, states, rewards, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(step_key, num_envs), states, actions, settings
        )
        return (weights, states, following, key), (observations, actions, rewards, terminated | truncated)

    def loss(weights: Any, rollout: Any, last: Any) -> Any:
        observations, actions, rewards, dones = rollout
        values = apply(weights["critic"], observations)[..., 0]

        def back(following: Any, at: Any) -> Any:
            reward, done = at
            found = reward + GAMMA * following * (1.0 - done)
            return found, found

        last_value = jax.lax.stop_gradient(apply(weights["critic"], last)[..., 0])
        _, returns = jax.lax.scan(back, last_value, (rewards, dones.astype(jnp.float32)), reverse=True)
        advantages = jax.lax.stop_gradient(returns - values)
        log_probs = jax.nn.log_softmax(apply(weights["actor"], observations))
        taken = jnp.take_along_axis(log_probs, actions[..., None], axis=-1)[..., 0]
        return -(advantages * taken).mean() + VF_COEF * jnp.square(returns - values).mean()

    def update(carry: Any, _: Any) -> Any:
        weights, moments, states, observations, key = carry
        (_, states, observations, key), rollout = jax.lax.scan(
            step, (weights, states, observations, key), None, N_STEPS
        )
        gradients = jax.grad(loss)(weights, rollout, observations)
        changes, moments = optimizer.update(gradients, moments, weights)
        return (optax.apply_updates(weights, changes), moments, states, observations, key), None

    chunk = max(1, 20_000 // (N_STEPS * num_envs))
    many = jax.jit(lambda carry: jax.lax.scan(update, carry, None, chunk)[0])
    key, reset_key, actor_key, critic_key = jax.random.split(jax.random.key(0), 4)
    observations, states = jax.vmap(env.reset, (0, None))(jax.random.split(reset_key, num_envs), settings)
    weights = {"actor": layers(actor_key, 2), "critic": layers(critic_key, 1)}
    state = {"carry": (weights, optimizer.init(weights), states, observations, key)}

    def train(steps: int) -> None:
        for _ in range(max(1, steps // (chunk * N_STEPS * num_envs))):
            state["carry"] = many(state["carry"])
        jax.block_until_ready(state["carry"])

    train(1)
    train.unit = chunk * N_STEPS * num_envs  # type: ignore[attr-defined]
    return train


# Name of each column of the table, the package that it needs, and the function that makes the training.
PEERS: dict[str, tuple[str, Callable[[int], Train]]] = {
    "rl_rms, native": ("rl_rms", rl_rms_native),
    "rl_rms, Sync": ("rl_rms", rl_rms_sync),
    "Stable-Baselines3": ("stable_baselines3", sb3),
    "CleanRL's style": ("torch", cleanrl),
    "skrl": ("skrl", skrl),
    "SBX (PPO)": ("sbx", sbx),
    "gymnax": ("gymnax", gymnax),
}


def measure(num_envs: int, rounds: int) -> dict[str, list[float]]:
    """Measure the env steps per CPU second of each training run in each round."""
    trainings: dict[str, tuple[Train, int]] = {}
    for name, (package, make) in PEERS.items():
        if find_spec(package) is None:
            continue
        train = make(num_envs)
        # The env steps of a call are a multiple of this unit.
        unit = getattr(train, "unit", N_STEPS * num_envs)
        train(20 * unit if unit == N_STEPS * num_envs else unit)
        steps, seconds = unit, 0.0
        while seconds < SECONDS / 2:
            steps *= 2
            start = time.process_time()
            train(steps)
            seconds = time.process_time() - start
        trainings[name] = train, steps
    found: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(rounds):
        for name, (train, steps) in trainings.items():
            start = time.process_time()
            train(steps)
            found[name].append(steps / (time.process_time() - start))
    return found


def table(measured: dict[str, dict[str, list[float]]]) -> str:
    """Format the speeds as Markdown, with the ratios of rl_rms to each library."""
    names = [name for name in PEERS if all(name in found for found in measured.values())]
    lines = [
        "Env steps per CPU second of training on CartPole, as medians over rounds. Brackets contain the ratio of "
        f"the speed of {OURS!r} to the speed in the column, as a median and quartiles over rounds.",
        "",
        f"| environments | {' | '.join(names)} |",
        f"|---:|{'---:|' * len(names)}",
    ]
    for num_envs, found in measured.items():
        cells = []
        for name in names:
            speed = f"{statistics.median(found[name]):,.0f}"
            if name != OURS:
                ratios = [ours / theirs for ours, theirs in zip(found[OURS], found[name], strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4)
                speed += f" ({middle:.2f}, {low:.2f} to {high:.2f})"
            cells.append(speed)
        lines.append(f"| {int(num_envs):,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(measured: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw the speeds of all libraries by the number of sub-environments."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    numbers = [int(num_envs) for num_envs in measured]
    for name in PEERS:
        if all(name in found for found in measured.values()):
            speeds = [statistics.median(found[name]) for found in measured.values()]
            axis.plot(numbers, speeds, marker="o", label=name, linewidth=2.5 if name == OURS else 1.2)
    axis.set(xscale="log", yscale="log", xlabel="sub-environments", ylabel="env steps per CPU second")
    axis.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axis.minorticks_off()
    axis.grid(color="#EEEEEE")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print the table, and write it with the raw numbers and the figure."""
    root = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--num-envs", type=int, nargs="*", default=NUM_ENVS)
    parser.add_argument("--output", type=Path, default=root / "results" / "peers.json")
    parser.add_argument("--figure", type=Path, default=root.parent / "docs" / "images" / "peers.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measured: dict[str, dict[str, list[float]]] = {}
    for num_envs in arguments.num_envs:
        measured[str(num_envs)] = measure(num_envs, arguments.rounds)
        print(
            num_envs,
            {name: round(statistics.median(one)) for name, one in measured[str(num_envs)].items()},
            flush=True,
        )
    print(table(measured))
    packages = {"stable_baselines3", "torch", "skrl", "sbx-rl", "gymnax", "jax"}
    versions = {name: metadata.version(name) for name in sorted(packages) if find_spec(name.removesuffix("-rl"))}
    text = ", ".join(f"{name} {one}" for name, one in versions.items())
    arguments.output.write_text(json.dumps({"versions": versions, "steps_per_second": measured}) + "\n")
    arguments.output.with_suffix(".md").write_text(f"{table(measured)}\n{text}; {platform.machine()}.\n")
    draw(measured, arguments.figure)


if __name__ == "__main__":
    main()
