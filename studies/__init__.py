"""Studies: one file per claim of the theory, each of which runs it, measures it and draws it."""
