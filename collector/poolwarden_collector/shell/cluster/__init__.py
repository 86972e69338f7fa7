"""Several collectors over etcd: who may act for which pool, and what was decided there, in one consistent store.

Open first: etcd.py (what is asked of etcd, and what an answer proves), then membership.py, ownership.py, commits.py.
"""
