"""What a study tells: charts, importance, effects, winners, progress and tables."""
