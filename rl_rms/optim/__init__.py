"""RMSprop with a half-life: the update rule, its kernels, estimators and diagnostics. It needs only torch."""
