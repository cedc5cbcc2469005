"""Real sockets, TLS, threads, and the daemon as a process of its own: few and slower."""
