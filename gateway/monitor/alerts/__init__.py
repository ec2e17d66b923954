"""From findings to alerts: what they amount to, how long they stand, who is told."""
