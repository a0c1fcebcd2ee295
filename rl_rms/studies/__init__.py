"""Studies: each module runs, measures and plots the test of one claim of the theory."""

from importlib import import_module

from rl_rms.studies.frame import Study

# In the order in which the source chapter makes the claims.
STUDIES = {
    "saddle": "steps to escape a saddle beside SGD, momentum and Adam",
    "batch_norm": "steps against the scale of a BatchNorm, over six decades",
    "layer_norm": "how much results depend on rho, with LayerNorm, with bias correction, with both",
    "two_player": "distance to the equilibrium of a game, by turns, momentum and optimism",
    "gradient_burst": "steps and recovery after a burst by rho, and what an attack costs agents",
    "half_life": "half-lives fixed, matched and found, in tracking and in return",
    "curriculum": "how long v takes to follow a curriculum, up and down",
    "architecture_ranking": "whether another optimizer would choose another policy network",
    "meta_gradient": "learning rate, half-life and epsilon by meta-gradient, beside a grid",
    "federated": "where the normalizer lives in a federation with noisy and unlike clients",
    "fairness": "true positive rates of a noisy and a quiet group, under normalizers by group and their rivals",
    "weight_decay": "what decay leaves of a weight, coupled and decoupled, and what agents earn with it",
    "clipping": "what a burst leaves in the second moment under each kind of clipping",
    "lr_schedule": "a swinging learning rate against a swinging noise, by phase and memory",
}
"""What each study looks at, by its name."""


def load(name: str) -> Study:
    """A study by its name, one of `STUDIES`."""
    study: Study = import_module(f"rl_rms.studies.{name}").STUDY
    return study
