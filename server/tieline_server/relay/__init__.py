"""Both ends of relayed connections: sockets of this machine on one side, gRPC on the other."""
