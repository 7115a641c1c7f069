"""What makes the pack: one file a subject."""
