"""What of the environment reaches training code: everything, except what would open the study's store to it.

This keeps passwords out of logs, crash reports and experiment trackers that copy the environment. It is no wall:
training code runs with the rights of the user who started it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tunewright.store.redact import redacted
from tunewright.store.urls import VARIABLE

KEEP = "TUNEWRIGHT_KEEP_ENV"
"""Names, separated by commas, of variables that training code is to see all the same."""
_SECRET = re.compile(r"PGPASSWORD|TUNEWRIGHT_\w*(TOKEN|PASSWORD|SECRET|KEY|NOTIFY)")


def for_training(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for worker processes and scripts.

    Tokens of ours and ``PGPASSWORD`` are left out, and the address of the default store loses its password; the
    variable stays, since code that reads it may run before it is known to be a worker.
    """
    kept = {name.strip() for name in environment.get(KEEP, "").split(",")}
    out = {k: v for k, v in environment.items() if k in kept or not _SECRET.fullmatch(k)}
    place = out.get(VARIABLE, "")
    # What is shown is cut; an address without a secret stays whole.
    if VARIABLE not in kept and redacted(place) != place[:200]:
        out[VARIABLE] = redacted(place)
    return out
