"""No sockets, no threads, no real clock: fast enough to run after every edit."""
