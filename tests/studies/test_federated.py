import pytest
import torch

from rl_rms.agents.federated import normalize
from rl_rms.agents.federated_config import FederationConfig
from rl_rms.studies import load
from rl_rms.studies.federated import at_best, measure, ratio

pytestmark = pytest.mark.slow

STUDY = load("federated")


def test_client_normalizers_help_similar_clients_and_harm_different_ones(quick):
    alike, unlike = (ratio(quick, "client", "pooled", unlike=unlike, share=1.0) for unlike in (0.0, 10.0))
    assert alike.high < 0.5
    assert unlike.low > 1
    of = {"placement": "client", "unlike": 10.0, "share": 1.0}
    assert at_best(quick, "noisy", **of).mean() > at_best(quick, "quiet", **of).mean()
    assert STUDY.verdict(quick).word == "conditional"


def test_client_normalizer_uses_its_own_gradients():
    config = FederationConfig(half_life=1.0, eps=0.0)
    first, state = normalize({"x": torch.tensor([2.0, -5.0])}, {}, config)
    assert first["x"].tolist() == [1.0, -1.0]
    second, _ = normalize({"x": torch.tensor([4.0, 0.0])}, state, config)
    # The bias-corrected v of 2 and 4 at rho = 1/2 is (1/4 * 4 + 1/2 * 16) / (3/4) = 12.
    assert second["x"].tolist() == pytest.approx([4 / 12**0.5, 0.0])


def test_federation_of_cartpoles_increases_the_return(monkeypatch):
    monkeypatch.setattr("rl_rms.studies.federated.AGENT_ROUNDS", 10)
    result = measure(0, placement="client", engine="here", rate=0.01)
    assert 8 < result["return"] < 200
