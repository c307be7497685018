//! Leader and client over loopback QUIC.
