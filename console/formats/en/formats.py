"""Moments where nothing else says how, in the support admin: to the second, and that they are UTC."""

DATETIME_FORMAT = SHORT_DATETIME_FORMAT = r"Y-m-d H:i:s \U\T\C"
