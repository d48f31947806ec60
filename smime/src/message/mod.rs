//! S/MIME messages (RFC 8551 section 3).
