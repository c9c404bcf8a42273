"""What single notebooks of `notebooks/paper/` measure and draw, one module each, from an opened `Results`."""
