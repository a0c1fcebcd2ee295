"""Clients with poles of their own learn one policy in this process, one of them paid with much noise.

The same rounds with their messages carried by Flower, on one machine or many: ``rl-rms federate cartpoles``.

Run: python examples/federated.py
"""

import math

import torch

from rl_rms.agents import A2C, evaluate
from rl_rms.agents.federated import Client, FederationConfig, Placement, Server
from rl_rms.envs import make_vec

WORLDS = [{"length": 0.25}, {"length": 0.5}, {"length": 1.0}, {"reward.noise": 5.0}]


def federate(placement: Placement, rounds: int) -> tuple[float, float]:
    """Play the rounds of a federation.

    Args:
        placement: Where RMSprop's normalizer lives.
        rounds: How many.

    Returns:
        Mean return of the policy in the first three worlds, before and after.
    """
    config = FederationConfig(rounds=rounds, local_updates=5, local_learning_rate=0.1, placement=placement)
    clients = []
    for number, changes in enumerate(WORLDS):
        env = make_vec("CartPole-v1", num_envs=4, changes=changes, seed=number)
        clients.append(Client(A2C(env, n_steps=8, optimizer=torch.optim.SGD, seed=number), config))
    policy = clients[0].agent.policy
    server = Server({name: one.detach().clone() for name, one in policy.named_parameters()}, config)
    before = score(clients[0], server)
    for _ in range(rounds):
        server.step([client.train(server.params) for client in clients])
    return before, score(clients[0], server)


def score(client: Client, server: Server) -> float:
    """Mean return of the server's policy over the worlds without noise."""
    agent = client.agent
    with torch.no_grad():
        for name, one in agent.policy.named_parameters():
            one.copy_(server.params[name])
    with agent.undisturbed():
        means = [
            evaluate(agent, make_vec("CartPole-v1", 4, changes), episodes=8, seed=1).mean_reward
            for changes in WORLDS[:3]
        ]
    return math.fsum(means) / len(means)


def main(rounds: int = 100) -> dict[str, tuple[float, float]]:
    """Federate with the normalizer at the server and in the clients, and print what each came to."""
    results = {}
    for placement in ("server", "client"):
        results[placement] = federate(placement, rounds)
        before, after = results[placement]
        print(f"normalizer: {placement:<7} mean return {before:6.1f} before, {after:6.1f} after {rounds} rounds")
    return results


if __name__ == "__main__":
    main()
