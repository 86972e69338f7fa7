"""Messages of etcd's API v3, made from etcd.proto by ``make protos``."""
