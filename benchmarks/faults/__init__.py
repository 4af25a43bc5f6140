"""What is done to systems to see what they lose: faults of the operating system, of servers and of processes."""
