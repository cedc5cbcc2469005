"""What goes over the wire. Pure: no sockets, no clock, no files."""
