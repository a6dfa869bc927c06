"""``mxrec bench``: mxrec beside other tables, in alternating rounds, with a report.

A side (mxrec, TFRA, stock TensorFlow) is a process of its own, started by ``launch.py`` in its own
environment: ``worker.py`` and the ``side_*.py`` modules run there. The rest runs the sides and the
C++ suite and writes the report. What is measured, and how: docs/benchmarks.md.
"""
