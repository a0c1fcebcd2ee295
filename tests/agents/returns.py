"""Returns for comparison in tests."""

RANDOM_RETURN = 22  # return of a random policy on CartPole-v1
