"""Losses: pure functions of tensors, one idea a file; none knows a model, a data set or a file.

Conventions of the whole room. Shapes are B K H W (B K D H W works wherever the signature says `*hw`); classes are
summed, pixels and batch averaged, so that a weight does not depend on the resolution. Targets hold a class index
per pixel, 255 takes part nowhere. A teacher's or peer's side never carries a gradient. A dtype that comes in goes
out; sums and means of half precision run in float32. The log-softmax of log-probabilities is themselves, so every
argument called `logits` may be given log-probabilities that were computed once and are shared by several losses.
"""
