"""Moves between one collector's file and the etcd of several, copies of what etcd holds, and a person's generation."""
