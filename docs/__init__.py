"""The site: pages written by hand, and `generate.py`,
which writes those that come from the code.
"""
