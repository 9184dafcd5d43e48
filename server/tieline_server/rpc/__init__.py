"""gRPC: interceptors, servicers that translate and call, error mapping."""
