"""Fence agents that this host runs for others, and what BMCs say of the machines behind them."""
