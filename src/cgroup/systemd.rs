//! Scopes of systemd: what is asked of it over D-Bus.
