//! HTTP/1 (RFC 9112) as a sans-I/O codec, used towards clients and towards endpoints.
