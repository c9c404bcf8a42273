"""Tables, figures, claims and comparisons, computed from the files of `results/` alone. Imports no torch."""
