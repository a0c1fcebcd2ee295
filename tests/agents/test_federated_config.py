import pytest

from rl_rms.agents.federated_config import FederationConfig
from tests.naming import naming


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rounds": 0}, ["rounds"]),
        ({"local_updates": 0}, ["local_updates"]),
        ({"learning_rate": 0.0}, ["learning_rate"]),
        ({"half_life": -1.0}, ["half_life"]),
        ({"placement": "here"}, ["placement", "server", "pooled", "client", "none", "'here'"]),
        ({"participation": 1.5}, ["participation"]),
        ({"max_norm_ratio": 1.0}, ["max_norm_ratio"]),
    ],
)
def test_federation_config_value_out_of_range_names_it(options, sentence):
    with pytest.raises(ValueError, match=naming(*sentence)):
        FederationConfig(**options)
