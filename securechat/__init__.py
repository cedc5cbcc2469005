"""SecureChat: an end-to-end encrypted chat you own, as a Twisted daemon and a terminal client."""

__version__ = "0.1.0"
