"""Train one policy on several clients in one process. Each client has its own environment.

Three clients have poles of different lengths. The fourth has noisy rewards. ``rl-rms federate cartpoles`` runs
such rounds on Flower, on one or more machines.

Run: python examples/federated.py
"""

import math

import torch

from rl_rms.agents import A2C, evaluate
from rl_rms.agents.federated import Client, Server
from rl_rms.agents.federated_config import FederationConfig, Placement
from rl_rms.envs import make_vec

# If each client normalized observations with its own statistics, the shared policy would see different scales.
AGENT = {"optimizer": torch.optim.SGD, "normalize_observation": False, "normalize_reward": False}
CHANGES = [{"length": 0.25}, {"length": 0.5}, {"length": 1.0}, {"reward.noise": 5.0}]


def federate(placement: Placement, rounds: int) -> tuple[float, float]:
    """Run a federation.

    Args:
        placement: Where RMSprop's second moment is computed, "server" or "client".
        rounds: Number of rounds.

    Returns:
        The policy's mean return in the three environments without noise, before and after the federation.
    """
    config = FederationConfig(rounds=rounds, local_updates=5, local_learning_rate=0.1, placement=placement)
    clients = []
    for number, changes in enumerate(CHANGES):
        env = make_vec("CartPole-v1", num_envs=4, changes=changes, seed=number)
        clients.append(Client(A2C(env, **AGENT, seed=number), config))
    policy = clients[0].agent.policy
    server = Server({name: parameter.detach().clone() for name, parameter in policy.named_parameters()}, config)
    before = score(clients[0], server)
    for _ in range(rounds):
        server.step([client.train(server.params) for client in clients])
    return before, score(clients[0], server)


def score(client: Client, server: Server) -> float:
    """Evaluate the server's policy in the environments without noise and return the mean return."""
    agent = client.agent
    with torch.no_grad():
        for name, parameter in agent.policy.named_parameters():
            parameter.copy_(server.params[name])
    with agent.actor.undisturbed():
        means = [
            evaluate(agent, make_vec("CartPole-v1", 4, changes), episodes=8, seed=1).mean_reward
            for changes in CHANGES[:3]
        ]
    return math.fsum(means) / len(means)


def main(rounds: int = 100) -> dict[str, tuple[float, float]]:
    """Run the federation with each placement of RMSprop's second moment and print the mean returns."""
    results = {}
    for placement in ("server", "client"):
        results[placement] = federate(placement, rounds)
        before, after = results[placement]
        print(f"placement {placement}: mean return {before:6.1f} before, {after:6.1f} after {rounds} rounds")
    return results


if __name__ == "__main__":
    main()
