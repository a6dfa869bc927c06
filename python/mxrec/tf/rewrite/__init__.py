"""Automatic graph rewriting: ids of lookups are computed and prepared in the input pipeline.

The passes, in their order: ``state`` (lookups are noted as they are built), ``movable`` and
``slicing`` (from the keys back to the iterator), ``plan`` (what moves, what stays), ``pipeline``
and ``rebuild`` (the new datasets and iterator), ``edges`` (all changes, or none). ``modify`` runs
them, and says by ``failing`` where one failed. ``replacements`` is what is known afterwards, by
which fetches and feeds (``fetches``), gradients (``derivatives``) and Python's iterators
(``batches``) mean the new graph. See docs/graph-rewriting.md.
"""
