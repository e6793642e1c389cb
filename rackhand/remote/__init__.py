"""Code that runs on the target host: Python standard library only, Python 3.9 or newer, sent over SSH for each call."""
