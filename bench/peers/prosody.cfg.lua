-- prosody for the bench: anonymous logins, rooms with their archive (MAM) on, no rate limits.
run_as_root = true
daemonize = false
pidfile = "@DIR@/prosody.pid"
data_path = "@DIR@/data"
network_backend = "epoll"
interfaces = { "127.0.0.1" }
c2s_ports = { @PORT@ }
c2s_direct_tls_ports = { }
s2s_ports = { }
modules_enabled = { "saslauth", "tls", "disco" }
modules_disabled = { "s2s", "offline", "limits" }
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "anonymous"
storage = "internal"
log = { warn = "@DIR@/prosody.log" }
c2s_timeout = 600
network_settings = { read_timeout = 3600, send_timeout = 600, tcp_backlog = 4096 }
ssl = { key = "@DIR@/key.pem", certificate = "@DIR@/cert.pem" }
VirtualHost "localhost"
Component "conference.localhost" "muc"
  restrict_room_creation = false
  muc_room_locking = false
  muc_room_default_history_length = 20
  max_history_messages = 20
  modules_enabled = { "muc_mam" }
  muc_log_by_default = true
  muc_log_all_rooms = true
  archive_expires_after = "never"
