"""What every room may use: options, registries, limits, shuffling, progress."""
