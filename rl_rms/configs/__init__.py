"""Packaged run configurations, one YAML per run; ``rl-rms train NAME`` finds them by name."""

if __name__ != "rl_rms.configs":
    raise ImportError(f"cannot import {__name__} through the link at the root; import rl_rms.configs")
