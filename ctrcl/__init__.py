"""A reproducible companion to CTRCL: rectified collaborative learning of a CNN and a Transformer.

Importing `ctrcl` imports nothing else; each room is imported where it is used (see the README's map).
"""

__version__ = "0.1.0"
