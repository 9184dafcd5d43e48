"""Exact and near indexes, derived from storage."""
