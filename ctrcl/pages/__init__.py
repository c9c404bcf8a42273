"""What the paper notebooks measure, draw and say, one module a notebook; they read `results/` and import no torch."""
