"""Automatic graph rewriting: ids of lookups are computed and prepared in the input pipeline.

The passes, in their order: ``state`` (lookups are noted as they are built), ``movable`` and
``slicing`` (from the keys back to the iterator), ``plan`` (what moves, what stays), ``pipeline``
and ``rebuild`` (the new datasets and iterator), ``edges`` (all changes, or none). ``modify`` runs
them. See docs/graph-rewriting.md.
"""
