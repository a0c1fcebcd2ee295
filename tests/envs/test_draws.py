import numpy as np

from rl_rms.envs import noise
from rl_rms.envs.draws import Draws
from rl_rms.envs.noise import NoiseKey


def draws_with(seed=3, drifts=(0,), clocks=(17,)):
    draws = Draws()
    draws.noise_key = NoiseKey(seed, drifts, tuple(range(len(clocks))), clocks)
    return draws


def test_numbers_of_an_env_step_depend_on_the_clock_and_the_first_observation():
    draws = draws_with(clocks=(17, 18))
    drawn = draws.normals("a", 3)
    assert drawn.tolist() == noise.normals("a", draws.noise_key, 3, [False, False]).tolist()
    assert draws.uniforms("a", 3).tolist() == noise.uniforms("a", draws.noise_key, 3, [False, False]).tolist()
    second = draws.normals("a", 3, np.array([False, True]))
    assert second[0].tolist() == drawn[0].tolist()
    assert second[1].tolist() != drawn[1].tolist()


def test_one_row_serves_all_environments_of_a_drift():
    draws = draws_with(drifts=(5, 5), clocks=(0, 0))
    assert draws.vectors("a", 2.0, 4).tolist() == [noise.vector("a", 3, 5, 2, 4).tolist()]
    assert draws.permutations("b", np.array([1.0, 0.0]), 3)[1].tolist() == [0, 1, 2]


def test_draw_is_repeated_only_if_number_seed_or_drift_changes():
    draws = draws_with()
    drawn = draws.permutations("a", 1.0, 20)
    draws.noise_key = draws.noise_key._replace(clocks=(18,))
    assert draws.permutations("a", 1.0, 20) is drawn
    others = [draws.permutations("a", 2.0, 20)]
    for changed in ({"seed": 4}, {"drifts": (1,)}):
        draws.noise_key = NoiseKey(3, (0,), (0,), (17,))._replace(**changed)
        others.append(draws.permutations("a", 1.0, 20))
    assert len({str(one.tolist()) for one in (drawn, *others)}) == 4


def test_number_that_changes_in_its_array_draws_again():
    draws = draws_with(drifts=(0, 1), clocks=(0, 0))
    numbers = np.array([1.0, 1.0])
    drawn = draws.vectors("a", numbers, 4)
    numbers[1] = 2.0
    again = draws.vectors("a", numbers, 4)
    assert again[0].tolist() == drawn[0].tolist()
    assert again[1].tolist() != drawn[1].tolist()
