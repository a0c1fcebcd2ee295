"""Packaged YAML files of runs, sweeps and federations; the commands of ``rl-rms`` find them by name."""

if __name__ != "rl_rms.configs":
    raise ImportError(f"cannot import {__name__} through the link at the root; import rl_rms.configs")
