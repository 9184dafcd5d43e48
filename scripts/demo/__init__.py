"""`make demo`: a whole federation on loopback, doing the work Tieline exists for."""
