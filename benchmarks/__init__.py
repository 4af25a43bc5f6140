"""Speed, regret and crash measurements, beside a named version of a peer in the same run."""
