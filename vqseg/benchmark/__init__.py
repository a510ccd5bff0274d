"""Comparisons: each module is a table, with ``add_arguments(parser)`` and ``run(args) -> int`` for the command line."""
