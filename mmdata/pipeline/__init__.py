"""The pipeline: from a mixture to batches, exact and resumable."""
