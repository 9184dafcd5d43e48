"""The node: what runs at one agency."""

# Before anything imports grpc, which reads its TLS settings once.
import tieline_client as tieline_client
