"""The host side, without threads, sockets or clocks: what is observed and reported, and what is done with an order."""
