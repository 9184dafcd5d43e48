"""One loop per destination."""
