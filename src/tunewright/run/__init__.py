"""Where training happens: one session per process on a study, one driver loop, executors. Knows no algorithm."""
