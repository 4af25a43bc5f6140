"""A language for searchable architectures: modules composed in sequence, by choice, repetition and residual connection.

A search is written once and used three ways: ``space`` compiles it to an ordinary conditional ``Space`` for any method,
``graph`` turns a configuration back into a fully specified architecture, and ``to_dict`` stores either. A specified
architecture is itself a search, one with nothing left to choose, made of ``Module``, ``Sequence``, ``Residual`` and
``Parallel`` only; compile it to whatever you train (``tunewright.integrations.architect_torch`` compiles to PyTorch).

Wherever a part is expected, a list stands for a sequence, a string for a module without settings, and None for nothing.

Parameters are named by their place: ``conv.filters``, and ``conv_2.filters`` for the second ``conv`` of a sequence;
``repeat.2.conv.filters`` in the second copy of a repetition. A decision about structure has the name of the place
itself: ``or`` says which alternative, ``repeat`` how many copies, ``optional`` whether. Give parts a ``name`` to read
``depth`` in place of ``repeat``. A sequence without a name adds nothing to names, unless it is one of several
alternatives. A place with only one possibility has no parameter.

Source: Negrinho and Gordon 2017 (DeepArchitect, arXiv:1704.08792), the model search space specification language.
Beyond it: continuous settings, parts in any order, and parallel parts.

Example:
    >>> from tunewright import Choice, Float
    >>> net = Sequence(
    ...     Repeat(["dense", Optional(Module("dropout", rate=Float(0.1, 0.5)))], [1, 2], name="depth"),
    ...     Or("relu", "tanh", name="last"),
    ... )
    >>> sorted(space(net).names)
    ['depth', 'depth.1.optional', 'depth.1.optional.dropout.rate', 'depth.2.optional', 'depth.2.optional.dropout.rate', 'last']
    >>> modules(graph(net, {"depth": 1, "depth.1.optional": False, "last": "tanh"}))
    (Module('dense'), Module('tanh'))
"""

from __future__ import annotations

from tunewright.architect.compiling import space
from tunewright.architect.language import (
    AnyOrder,
    Module,
    Optional,
    Or,
    Parallel,
    Part,
    Repeat,
    Residual,
    Search,
    Sequence,
)
from tunewright.architect.storing import from_dict, to_dict
from tunewright.architect.walking import graph, modules, next_choice, traverse

__all__ = [
    "AnyOrder",
    "Module",
    "Optional",
    "Or",
    "Parallel",
    "Part",
    "Repeat",
    "Residual",
    "Search",
    "Sequence",
    "from_dict",
    "graph",
    "modules",
    "next_choice",
    "space",
    "to_dict",
    "traverse",
]
