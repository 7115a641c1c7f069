"""Small trainings that show what the data is good for."""
