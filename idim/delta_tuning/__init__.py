"""Every way of tuning on the same work, in one table: scores, counts, memory, time."""
