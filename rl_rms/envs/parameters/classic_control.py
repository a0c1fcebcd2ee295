"""The parameters of Gymnasium's classic control environments.

A parameter that limits observations or actions cannot exceed the bounds of the spaces, which do not change.
"""

import math
from typing import Any

import numpy as np

from rl_rms.envs.parameters.registry import register_parameter

_CARTPOLE = "gymnasium.envs.classic_control.cartpole:"
_OURS = "rl_rms.envs.classic_control."
# Single and native vector environments, and whether a value may differ between sub-environments.
_ACROBOTS = {
    "gymnasium.envs.classic_control.acrobot:AcrobotEnv": False,
    _OURS + "acrobot:AcrobotVectorEnv": True,
}
_CARS = {
    "gymnasium.envs.classic_control.mountain_car:MountainCarEnv": False,
    _OURS + "mountain_car:MountainCarVectorEnv": True,
}
_CONTINUOUS_CARS = {
    "gymnasium.envs.classic_control.continuous_mountain_car:Continuous_MountainCarEnv": False,
    _OURS + "mountain_car:MountainCarContinuousVectorEnv": True,
}
_PENDULUMS = {
    "gymnasium.envs.classic_control.pendulum:PendulumEnv": False,
    _OURS + "pendulum:PendulumVectorEnv": True,
}


def _derive_masses(env: Any) -> None:
    # The physics also reads total_mass and polemass_length, which only the constructor computes.
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length


def _derived(env: Any) -> str:
    return "it is computed from masscart, masspole and length; change one of these parameters"


for _class, _batched in ((_CARTPOLE + "CartPoleEnv", False), (_CARTPOLE + "CartPoleVectorEnv", True)):
    for _name in ("gravity", "force_mag"):
        register_parameter(_class, _name, batched=_batched)
    register_parameter(_class, "tau", batched=_batched, above=0)
    # The bounds of the observation space are twice the initial thresholds.
    register_parameter(_class, "x_threshold", batched=_batched, low=0, high=4.8)
    register_parameter(_class, "theta_threshold_radians", batched=_batched, low=0, high=24 * 2 * math.pi / 360)
    register_parameter(_class, "masscart", derive=_derive_masses, batched=_batched, low=0)
    for _name in ("masspole", "length"):
        register_parameter(_class, _name, derive=_derive_masses, batched=_batched, above=0)
    for _name in ("total_mass", "polemass_length"):
        register_parameter(_class, _name, inert=_derived)


def _set_torque(env: Any, torque: float) -> None:
    env.AVAIL_TORQUE = [-torque, 0.0, torque]


def _only_drawn(env: Any) -> str:
    return "it only affects rendering; change LINK_COM_POS_2 or LINK_MASS_2, which affect the motion"


# Acrobot's parameters are class attributes. A value set on an instance does not affect other environments.
for _class, _batched in _ACROBOTS.items():
    for _name in ("dt", "LINK_LENGTH_1", "LINK_MASS_1", "LINK_MASS_2", "LINK_MOI"):
        register_parameter(_class, _name, batched=_batched, above=0)
    for _name in ("LINK_COM_POS_1", "LINK_COM_POS_2", "torque_noise_max"):
        register_parameter(_class, _name, batched=_batched, low=0)
    register_parameter(_class, "MAX_VEL_1", batched=_batched, low=0, high=4 * math.pi)
    register_parameter(_class, "MAX_VEL_2", batched=_batched, low=0, high=9 * math.pi)
    register_parameter(_class, "torque", set=_set_torque, get=lambda env: env.AVAIL_TORQUE[-1], batched=_batched)
    register_parameter(_class, "LINK_LENGTH_2", inert=_only_drawn)


# Gymnasium initializes goal_velocity of the cars and max_speed of Pendulum with ints, but its computations allow
# floats.
def _set_goal_velocity(env: Any, velocity: float) -> None:
    env.goal_velocity = velocity


def _set_max_speed(env: Any, speed: float) -> None:
    env.max_speed = speed


# In a vector environment, a state of shape (2,) is the state of every sub-environment.
def _reach_the_goal(env: Any) -> None:
    # Just before the goal, slightly faster than the goal velocity.
    env.state = np.array([env.goal_position - 0.005, max(env.goal_velocity, 0.0) + 0.01])


def _reach_the_left_end(env: Any) -> None:
    env.state = np.array([env.min_position + 0.001, -env.max_speed])


def _reach_the_right_end(env: Any) -> None:
    # If the goal velocity is above the car's maximum speed, the episode does not end at the goal.
    env.goal_velocity = 2 * env.max_speed
    env.state = np.array([env.max_position - 0.001, env.max_speed])


for _class, _batched in (_CARS | _CONTINUOUS_CARS).items():
    register_parameter(_class, "max_speed", batched=_batched, low=0, high=0.07)
    register_parameter(_class, "goal_position", batched=_batched, low=-1.2, high=0.6, provoke=_reach_the_goal)
    register_parameter(_class, "goal_velocity", set=_set_goal_velocity, batched=_batched, provoke=_reach_the_goal)
    register_parameter(_class, "min_position", batched=_batched, low=-1.2, high=0.6, provoke=_reach_the_left_end)
    register_parameter(_class, "max_position", batched=_batched, low=-1.2, high=0.6, provoke=_reach_the_right_end)
for _class, _batched in _CARS.items():
    for _name in ("force", "gravity"):
        register_parameter(_class, _name, batched=_batched)
for _class, _batched in _CONTINUOUS_CARS.items():
    register_parameter(_class, "power", batched=_batched)  # gravity is a constant in the environment's code
    register_parameter(_class, "min_action", batched=_batched, low=-1, high=0)
    register_parameter(_class, "max_action", batched=_batched, low=0, high=1)

for _class, _batched in _PENDULUMS.items():
    register_parameter(_class, "g", batched=_batched)
    for _name in ("m", "l", "dt"):
        register_parameter(_class, _name, batched=_batched, above=0)
    register_parameter(_class, "max_torque", batched=_batched, low=0, high=2)
    register_parameter(_class, "max_speed", set=_set_max_speed, batched=_batched, low=0, high=8)
