"""Two processes, their pipe, and the threads of the host side."""
