"""Files to records: JSON, Parquet, Arrow, CSV and WebDataset tars, plain or packed."""
