"""Returns at which trainings end, and the return of a random policy."""

import numpy as np

RANDOM_RETURN = 22  # mean return of a random policy on CartPole-v1


def below(mean_return, episodes=100):
    """A callback that ends a training once the mean return of the last episodes is above a value."""

    def is_below(agent):
        returns = [episode.ret for episode in agent.episodes][-episodes:]
        return len(returns) < episodes or np.mean(returns) <= mean_return

    return is_below
