"""The command line ``rl-rms``: one module per command, configuration files, plots."""
