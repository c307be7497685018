//! QUIC and mutual TLS: the protocol's bytes between two machines, docs/PROTOCOL.md#transport
//!
//! ```text
//!     cert.rs      a CA and certificates, in one command each
//!     tls.rs       a folder of PEM files -> rustls configurations; a peer's certificate -> who it is
//!     endpoint.rs  sockets, limits, connecting, and what a broken connection means
//!     stream.rs    frames over QUIC streams
//!     retry.rs     how long to wait before the next try
//! ```
//!
//! There is one way in: TLS 1.3, both sides verified. No code path turns verification off, so none can be taken by mistake.
//!
//! Layer: net. Uses `wire`, `entropy`. Knows nothing of the engine, nor of what the frames say.

pub(crate) mod cert;
pub(crate) mod endpoint;
pub(crate) mod retry;
pub(crate) mod stream;
pub(crate) mod tls;
