"""Students: a timm backbone, one light decoder for all, and the prediction with its features."""
