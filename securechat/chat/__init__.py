"""The rules of conversation. Pure: no sockets, no SQL, no clock."""
