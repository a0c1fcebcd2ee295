"""Converts rollouts and weights of Stable-Baselines3's on-policy agents for the agents of rl_rms."""

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_rms.agents.rollout import Rollout

NAMES = {
    "mlp_extractor.policy_net": "actor_network",
    "mlp_extractor.value_net": "critic_network",
    "action_net": "actor_network.4",
    "value_net": "critic_network.4",
}


def our_name(name):
    """Convert the name of a parameter of Stable-Baselines3 to the name in rl_rms."""
    part = next(one for one in NAMES if name.startswith(one)) if name != "log_std" else name
    return NAMES.get(part, part) + name[len(part) :]


def our_weights(theirs):
    """The weights of a Stable-Baselines3 agent by rl_rms's parameter names."""
    return {our_name(name): param.detach().clone() for name, param in theirs.policy.named_parameters()}


def short_episodes(id, num_envs=3):
    """A VecEnv of Stable-Baselines3 with a time limit of four steps."""
    return DummyVecEnv([lambda: gym.make(id, max_episode_steps=4)] * num_envs)


def collected(theirs):
    """Let a Stable-Baselines3 agent collect a rollout, and convert the rollout."""
    env, num_steps, finals = theirs.env, theirs.n_steps, {}
    step_wait, count = env.step_wait, 0

    def watched():
        # Stable-Baselines3's buffer does not keep the final observations.
        nonlocal count
        observations, rewards, dones, infos = step_wait()
        for i in np.flatnonzero(dones):
            finals[count, int(i)] = infos[i]["terminal_observation"], infos[i]["TimeLimit.truncated"], rewards[i]
        count += 1
        return observations, rewards, dones, infos

    env.step_wait = watched
    # Stable-Baselines3 has no public names for the set-up of a rollout and for the last observations.
    _, callback = theirs._setup_learn(1, None)
    theirs.collect_rollouts(env, callback, theirs.rollout_buffer, num_steps)
    buffer = theirs.rollout_buffer
    shape = num_steps, env.num_envs
    rewards, terminated, truncated = buffer.rewards.copy(), np.zeros(shape, bool), np.zeros(shape, bool)
    for (t, i), (_, cut, reward) in finals.items():
        rewards[t, i] = reward
        (truncated if cut else terminated)[t, i] = True
    cut_off = [key for key, (_, cut, _) in finals.items() if cut]
    assert cut_off
    return Rollout(
        observations=np.concatenate((buffer.observations, theirs._last_obs[None])),
        actions=buffer.actions.reshape(*shape, *env.action_space.shape).astype(env.action_space.dtype),
        rewards=rewards,
        terminated=terminated,
        truncated=truncated,
        valid=np.ones(shape, bool),
        starts=np.concatenate((buffer.episode_starts, theirs._last_episode_starts[None])).astype(bool),
        action_masks=None,
        final_index=np.array(cut_off),
        final_observations=np.stack([finals[key][0] for key in cut_off]),
        episodes=[],
    )


def act_on(backend, rollout, generator):
    """Pass a rollout's observations to ``act``, because the numpy backend reuses the activations of ``act``."""
    for t in range(len(rollout.valid)):
        backend.act(t, rollout.observations[t], rollout.starts[t], None, None, generator)
