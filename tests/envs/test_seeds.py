import pytest

from rl_rms.envs.seeds import derive_seeds, first_seed
from tests.naming import naming


def test_derive_seeds_of_any_entropy_fit_a_signed_32_bit_integer():
    seeds = [derive_seeds((seed, 1), 3) for seed in range(200)]
    assert max(map(max, seeds)) < 2**31 - 10_000
    assert len({seed for each in seeds for seed in each}) == 600
    assert derive_seeds(7) == derive_seeds((7,))


def test_first_seed_is_given_returns_it_else_a_random_one():
    assert first_seed(7) == 7
    assert first_seed(None) != first_seed(None)


def test_first_seed_is_negative_names_the_value():
    with pytest.raises(ValueError, match=naming("seed", ">= 0", "-1")):
        first_seed(-1)
