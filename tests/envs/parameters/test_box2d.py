import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs.nonstationary import NonStationary
from rl_rms.envs.schedules import Step
from tests.naming import naming


def test_lunar_lander_falls_with_the_new_gravity_from_the_next_step():
    pytest.importorskip("Box2D")

    def fall(gravity):
        env = NonStationary(gym.make("LunarLander-v3"), {"gravity": gravity})
        env.reset(seed=0)
        return np.array([env.step(0)[0][3] for _ in range(20)])

    usual, moved = fall(-10.0), fall(Step(before=-10.0, after=-2.0, at=10))
    assert usual.tolist() == observations_of_a_fall(usual).tolist()
    assert moved[:10].tolist() == usual[:10].tolist()
    assert np.diff(moved[10:]) == pytest.approx(np.diff(usual[10:]) / 5, rel=0.01)
    with pytest.raises(ValueError, match=naming("enable_wind=True")):
        NonStationary(gym.make("LunarLander-v3"), {"wind_power": 3.0})
    NonStationary(gym.make("LunarLander-v3", enable_wind=True), {"wind_power": 3.0, "turbulence_power": 1.0})


def observations_of_a_fall(like):
    env = gym.make("LunarLander-v3")
    env.reset(seed=0)
    return np.array([env.step(0)[0][3] for _ in range(len(like))])


def test_walker_slips_from_the_next_reset_on():
    pytest.importorskip("Box2D")
    env = NonStationary(
        gym.make("BipedalWalker-v3"), {"friction": Step(2.5, 0.5, at=2), "gravity": Step(-10.0, -5.0, at=2)}
    )
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.zeros(4, np.float32))

    def ground():
        return {fixture.friction for body in env.unwrapped.terrain for fixture in body.fixtures}

    assert (ground(), tuple(env.unwrapped.world.gravity)) == ({2.5}, (0.0, -5.0))
    env.reset()
    assert (ground(), tuple(env.unwrapped.world.gravity)) == ({0.5}, (0.0, -5.0))


def test_car_racing_reset_builds_car_and_road_with_the_present_values():
    pytest.importorskip("Box2D")
    env = NonStationary(gym.make("CarRacing-v3"), {"road_friction": 0.25, "mass_scale": 2.0})
    env.reset(seed=0)
    car_racing = env.unwrapped
    assert {tile.road_friction for tile in car_racing.road} == {0.25}
    bodies = [car_racing.car.hull, *car_racing.car.wheels]
    for body in bodies:
        assert body.mass == pytest.approx(2 * sum(fixture.massData.mass for fixture in body.fixtures), rel=1e-5)
