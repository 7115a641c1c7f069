"""Where work on media and batches runs: processes with a deadline and a memory cap."""
