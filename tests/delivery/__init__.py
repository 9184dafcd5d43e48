"""Delivery and contact, below whole nodes."""
