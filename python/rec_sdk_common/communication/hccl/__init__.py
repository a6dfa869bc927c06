"""Import paths only; the contents come from ``mxrec.tf``."""
