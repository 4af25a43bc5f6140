"""Other tools behind one small interface, a file each.

A file has ``ADAPTERS``: a class and its settings by name. The class is made from ``(space, seed, trials, objectives,
**settings)``, with a ``tunewright.Space``; ``ask()`` returns a handle and a configuration that may have values for
parameters that are switched off, ``tell(handle, losses)`` takes the minimised losses, one per objective. ``VERSION``
names the package whose version is reported, ``MANY`` the adapters that take several losses, if any. A file that cannot be imported is left out of the run.
"""
