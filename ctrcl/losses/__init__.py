"""Losses and tensors that several methods share. Pure functions; none knows a model, a data set or a file.

Shapes are B K H W (B K D H W wherever the signature says `*hw`). Classes are summed, pixels and batch averaged, so
that a weight does not depend on the resolution. A target holds a class index per pixel; 255 takes part nowhere. A
teacher's or peer's side never carries a gradient. The dtype that comes in goes out; sums of half precision run in
float32. The log-softmax of log-probabilities is itself, so every argument called `logits` also takes
log-probabilities.
"""
