"""Files to records: JSON arrays and JSON Lines, plain, gzip or Zstandard."""
