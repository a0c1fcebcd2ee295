"""Returns that tests compare with."""

RANDOM_RETURN = 22  # of a random policy on CartPole-v1
