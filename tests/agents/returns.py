RANDOM_RETURN = 22  # mean return of a random policy on CartPole-v1
