//! Reads what the host is; changes nothing.
