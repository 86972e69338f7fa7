"""xapi as this host meets it: its sockets, its database file, its unit. Every question has a hard limit."""
