"""One runnable check per published claim. ``python -m claims table`` lists them.

A claim is a module of this package with a docstring that states what the paper says, a ``CLAIM``, and a function
``run(quick) -> Result``. The result of a full run is stored beside it in ``results/`` and committed.
"""
