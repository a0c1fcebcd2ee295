"""Studies, each of which tests one claim of RMSprop's theory, and tabulates and plots the result."""

from importlib import import_module

from rl_rms.studies.frame import Study

# The studies are in the order of the table in docs/studies/README.md.
STUDIES = {
    "saddle": "steps to escape a saddle, compared with SGD, momentum and Adam",
    "batch_norm": "step sizes by the scale of a BatchNorm, over six decades",
    "layer_norm": "sensitivity to rho with LayerNorm, bias correction or both",
    "two_player": "distance to the equilibrium of a game, by order of updates, momentum and optimism",
    "gradient_burst": "steps and recovery after a burst, by rho, and the return that agents lose after two events",
    "half_life": "half-lives of RMSprop and of normalizers: tracking error and return",
    "curriculum": "lag of the second moment behind a curriculum, for growing and shrinking gradients",
    "architecture_ranking": "whether the optimizer changes the ranking of policy networks",
    "meta_gradient": "learning rate, half-life and epsilon by meta-gradient, compared with a grid",
    "federated": "placement of the second moment in a federation whose clients differ, some with noisy gradients",
    "fairness": "true positive rates of a noisy and a quiet group, by optimizer and weights of the loss",
    "weight_decay": "remaining weights under coupled and decoupled decay, and agents' returns",
    "clipping": "effect of a burst on the second moment, by kind of clipping",
    "lr_schedule": "a periodic learning rate with periodic noise, by phase and half-life",
}
"""The subject of each study, by name."""


def load(name: str) -> Study:
    """Load a study by its name, one of `STUDIES`."""
    study: Study = import_module(f"rl_rms.studies.{name}").STUDY
    return study
