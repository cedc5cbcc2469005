"""What `twistd` and `twist` list. Only strings: nothing of SecureChat is imported until it is run."""

from twisted.application.service import ServiceMaker

server = ServiceMaker("SecureChat", "securechat.tap", "End-to-end encrypted chat server", "securechat")
client = ServiceMaker("SecureChat client", "securechat.client_tap", "SecureChat terminal client", "securechat-client")
