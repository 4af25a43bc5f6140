"""The rows of the table of faults: what is done, and to which system in which place."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.faults.torture import Torture

OURS = ("sqlite", "full", "pg", "http")
FILES = ("sqlite", "full")
SERVERS = ("pg", "http")


@dataclass(frozen=True)
class Fault:
    """One row.

    Attributes:
        title: What is done, in few words.
        how: What is done, exactly.
        ours: Places in which Tunewright is put to it.
        theirs: Places in which Optuna is.
        torture: A scenario of relbench, or None for one of ``scenarios``.
        seconds: Length of the scenario.
        needs: What it cannot be done without: ``root``, ``shim``.
    """

    title: str
    how: str
    ours: tuple[str, ...] = OURS
    theirs: tuple[str, ...] = ("sqlite", "wal", "pg", "grpc")
    torture: Torture | None = None
    seconds: float = 15.0
    needs: tuple[str, ...] = field(default=())


_KILLS = ("--seconds", "40", "--period", "2")
_LATE = ("optuna", ("--opt", "hb=1", "--opt", "grace=3"))
ROWS: dict[str, Fault] = {
    "workers": Fault(
        "Workers killed in the middle of a trial",
        "4 workers ask and tell; every 2 s one is killed with SIGKILL and replaced, for 40 s; then one works alone for 15 s",
        theirs=("sqlite", "sqlite_hb", "wal", "journal", "pg", "grpc"),
        torture=Torture("kill9", (*_KILLS, "--calm", "15"), ("--seconds", "8", "--period", "1", "--calm", "5")),
    ),
    "processes": Fault(
        "Processes killed at random",
        "4 processes ask and tell, 20 enqueued configurations; about every 0.35 s one of those that have had a result acknowledged is killed and replaced",
        theirs=(), seconds=20.0,
    ),
    "drivers": Fault(
        "Drivers and their workers killed",
        "`Study.run` with 4 workers that train in steps; about every 0.35 s a worker or the whole driver is killed",
        theirs=(), seconds=20.0,
    ),
    "items": Fault(
        "Workers killed with 150 configurations enqueued",
        "as the first, with 150 enqueued configurations and 35 s alone",
        theirs=("sqlite", "sqlite_hb", "pg", "grpc"),
        torture=Torture("kill9_items", (*_KILLS, "--calm", "35", "--items", "150"), ("--seconds", "8", "--calm", "20", "--items", "40")),
    ),
    "race": Fault(
        "200 enqueued configurations, 4 processes",
        "4 processes take configurations from the queue at once, as fast as they can",
        theirs=("sqlite", "wal", "pg"),
    ),
    "reclaim": Fault(
        "A dead worker's configuration is to be had again",
        "a worker is killed in its trial; another asks until it gets the same configuration. On the same machine within "
        "1 s; with a worker of what looks like another machine within 40 s, with the default lease of 30 s",
        theirs=("sqlite", "pg"),
    ),
    "zombies": Fault(
        "Workers stopped for 8 s, beyond their lease",
        "3 workers with leases of 3 s, 60 enqueued configurations; one worker at a time gets SIGSTOP, and SIGCONT 8 s later",
        theirs=("sqlite_hb", "pg_hb"),
        torture=Torture(
            "pause", ("--seconds", "25", "--calm", "20", "--items", "60", "--dur", "0.5"),
            ("--seconds", "10", "--calm", "6", "--items", "20"), opts=(_LATE,),
        ),
    ),
    "signals": Fault(
        "SIGTERM, SIGINT, SIGHUP",
        "a run of 3 trainings of 25 steps gets the signal in step 12 of the second; then the same command is given again",
        theirs=("sqlite", "pg"),
    ),
    "starts": Fault(
        "16 processes start on nothing",
        "16 processes make the same study in a fresh place at the same moment: with `exist_ok` all must get it, without "
        "exactly one",
        theirs=("sqlite", "wal", "journal", "pg"),
        torture=Torture("create_race", opts=(("optuna:pg", ("--opt", "virgin=1")), ("tunewright:pg", ("--opt", "virgin=1")))),
    ),
    "resume": Fault(
        "Two processes resume one study",
        "with the same seed, 20 trials each",
        theirs=("sqlite", "journal", "pg"),
        torture=Torture("resume2"),
    ),
    "fork": Fault(
        "Fork after the study was opened",
        "a process opens the study and forks four times; the children use the same handle for 25 trials each",
        theirs=("sqlite", "journal", "pg", "grpc"),
        torture=Torture("fork"),
    ),
    "server_kill": Fault(
        "Server killed while workers work",
        "4 workers; the database (`pg_ctl -m immediate`) or our server (SIGKILL) is killed 3 to 5 times in 30 s and is "
        "back after 1 s",
        ours=SERVERS, theirs=("pg", "grpc"),
        torture=Torture("server_kill", ("--seconds", "30", "--period", "3"), ("--seconds", "8", "--period", "2"), dropped=True),
    ),
    "server_hang": Fault(
        "Server hangs for 20 s",
        "2 workers; the server gets SIGSTOP, and SIGCONT 20 s later",
        ours=SERVERS, theirs=("pg", "grpc"), torture=Torture("server_hang"),
    ),
    "network": Fault(
        "Network that stalls, cuts and loses answers",
        "4 workers behind a proxy that for 30 s resets connections, passes nothing for 3 s, or throws an answer away "
        "after the server has done the work",
        ours=SERVERS, theirs=("pg",), seconds=30.0,
    ),
    "disk_full": Fault(
        "Disk full, then space again",
        "2 workers write to a tmpfs of 700 KB until nothing goes any more; reads must go on; then there is space again",
        ours=FILES, theirs=("sqlite", "wal", "journal"), needs=("root",),
        torture=Torture("disk_full", ("--seconds", "15", "--opt", "quota_kb=700"), ("--seconds", "8", "--opt", "quota_kb=700")),
    ),
    "short_write": Fault(
        "A write cut short",
        "a limit on the size of files (RLIMIT_FSIZE) lets the kernel write half of something; the worker fails, the "
        "next one must go on",
        ours=FILES, theirs=("sqlite", "journal"), torture=Torture("fsize", ("--opt", "slack=700")),
    ),
    "torn": Fault(
        "Files cut at any byte",
        "a worker is killed; copies of each file of the store are cut at 40 places of their last 64 KB, opened, read "
        "and written",
        ours=FILES, theirs=("sqlite", "wal", "journal"),
    ),
    "slow_locks": Fault(
        "Locks of files take 20 ms",
        "4 workers, every lock delayed by 0 to 40 ms, as on a network disk",
        ours=FILES, theirs=("sqlite", "wal"), needs=("shim",),
    ),
    "clock_ahead": Fault(
        "A worker's clock is 120 s ahead",
        "2 workers, one with 6 s trials, the other with a wrong time of day",
        theirs=("sqlite_hb", "pg_hb"), needs=("shim",),
        torture=Torture("clock", ("--seconds", "16", "--opt", "offset=+120s")),
    ),
    "clock_behind": Fault(
        "A worker's clock is 120 s behind",
        "the same, the other way",
        theirs=("sqlite_hb", "pg_hb"), needs=("shim",),
        torture=Torture("clock", ("--seconds", "16", "--opt", "offset=-120s")),
    ),
}  # fmt: skip
