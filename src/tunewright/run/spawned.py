"""What a freshly started interpreter runs to become a guard and its worker; ``run.processes`` starts it as a module.

The guard parts from its worker before anything but the standard library is imported.
"""

from __future__ import annotations

import sys

from tunewright.run.guard import stand


def main() -> None:
    """Takes the descriptor of the worker's socket and the driver's process id as arguments."""
    fd = int(sys.argv[1])
    stand(fd, int(sys.argv[2]))
    from tunewright.run.child import work

    work(fd)


if __name__ == "__main__":
    main()
