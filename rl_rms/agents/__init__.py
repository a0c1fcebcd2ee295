"""REINFORCE, A2C and PPO agents for Gymnasium environments, with a half-life for RMSprop."""

if __name__ != "rl_rms.agents":
    raise ImportError(f"cannot import {__name__} from the repository root; import rl_rms.agents")


from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_rms.agents.a2c import A2C
    from rl_rms.agents.adaptation import AdaptationCallback
    from rl_rms.agents.attacks import FGSMAttack
    from rl_rms.agents.callbacks import Callback
    from rl_rms.agents.checkpoint_callback import CheckpointCallback
    from rl_rms.agents.config import A2CConfig, PPOConfig, ReinforceConfig
    from rl_rms.agents.config_parts import MetaConfig, NormalizerConfig, PolicyConfig
    from rl_rms.agents.eval_callback import EvalCallback
    from rl_rms.agents.evaluation import Evaluation, evaluate
    from rl_rms.agents.histogram_callback import HistogramCallback
    from rl_rms.agents.policies import ActorCriticPolicy
    from rl_rms.agents.ppo import PPO
    from rl_rms.agents.progress import ProgressCallback
    from rl_rms.agents.reinforce import Reinforce
    from rl_rms.agents.trackers import MLflowCallback, WandbCallback
    from rl_rms.agents.video import VideoCallback

_HOME = {
    "A2C": "a2c",
    "A2CConfig": "config",
    "ActorCriticPolicy": "policies",
    "AdaptationCallback": "adaptation",
    "Callback": "callbacks",
    "CheckpointCallback": "checkpoint_callback",
    "EvalCallback": "eval_callback",
    "Evaluation": "evaluation",
    "FGSMAttack": "attacks",
    "HistogramCallback": "histogram_callback",
    "MLflowCallback": "trackers",
    "MetaConfig": "config_parts",
    "NormalizerConfig": "config_parts",
    "PPO": "ppo",
    "PPOConfig": "config",
    "PolicyConfig": "config_parts",
    "ProgressCallback": "progress",
    "Reinforce": "reinforce",
    "ReinforceConfig": "config",
    "VideoCallback": "video",
    "WandbCallback": "trackers",
    "evaluate": "evaluation",
}

__all__ = [
    "A2C",
    "PPO",
    "A2CConfig",
    "ActorCriticPolicy",
    "AdaptationCallback",
    "Callback",
    "CheckpointCallback",
    "EvalCallback",
    "Evaluation",
    "FGSMAttack",
    "HistogramCallback",
    "MLflowCallback",
    "MetaConfig",
    "NormalizerConfig",
    "PPOConfig",
    "PolicyConfig",
    "ProgressCallback",
    "Reinforce",
    "ReinforceConfig",
    "VideoCallback",
    "WandbCallback",
    "evaluate",
]


def __getattr__(name: str) -> Any:
    """Import a name on first use, so that the configurations load without torch."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"rl_rms.agents.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
