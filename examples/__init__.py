"""A tour on drawn data, from files of annotations to a model that answers."""
