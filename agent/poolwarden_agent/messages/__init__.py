"""Between the host side's plain values and the contract's messages. Imports protobuf, never grpc."""
