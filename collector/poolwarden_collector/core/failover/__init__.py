"""The failover, step by step: claim, candidate, fence, proof, last look, promotion, members, end."""
