"""Versions of a model on disk: full ones and deltas, their chains, how they are written and read.

A *version directory* holds all tables of a model at one instant, each in a directory of its own in
the engine's format, and a manifest that is written last (docs/format-checkpoint.md). A *full*
version stands alone; a *delta* holds what changed since its *parent*, another version directory
beside it. Nothing here needs TensorFlow.
"""
