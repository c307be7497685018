//! The admin pages: a GET server as small as it can be.
//!
//! `/live` the process turns; `/ready` it should be sent work, or each reason why not; `/status` the JSON of `status --json`; `/metrics`
//! for Prometheus. They change nothing and have no password, so they belong on loopback.
//!
//! Layer: node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{health, metrics};
use crate::follower::Lag;
use crate::leader::Server;

/// Bytes of a request that are looked at; nobody needs as many.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Requests at a time.
const REQUESTS_MAX: usize = 32;
/// A request and its answer take no longer than this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// After an error of accept (out of file descriptors, for instance) it is not tried again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An answer.
struct Page {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Page {
    fn text(status: &'static str, body: impl Into<String>) -> Page {
        Page { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

pub(super) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        tracing::warn!(
            "--admin {address} is not a loopback address: whoever reaches it can read the status of this node"
        );
    }
    TcpListener::bind(address).await
}

/// Serves until the task is ended.
pub(super) async fn serve(socket: TcpListener, server: Arc<Server>, follows: Option<Arc<Lag>>) {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (server, follows) = (Arc::downgrade(&server), follows.clone());
        tokio::spawn(async move {
            let _place = place;
            let answered = timeout(REQUEST_TIMEOUT, async {
                let (stream, path) = read_request(stream).await?;
                let Some(server) = server.upgrade() else { return Ok(()) };
                answer(stream, &page(&path, &server, follows.as_deref())).await
            });
            if let Ok(Err(error)) = answered.await {
                tracing::debug!("admin request: {error}");
            }
        });
    }
}

/// The path of a GET; an empty one for anything else.
async fn read_request(mut stream: TcpStream) -> std::io::Result<(TcpStream, String)> {
    let mut request = Vec::with_capacity(1024);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let path = match (words.next(), words.next()) {
        (Some("GET"), Some(target)) => target.split('?').next().unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    Ok((stream, path))
}

fn page(path: &str, server: &Server, follows: Option<&Lag>) -> Page {
    let view = follows.map(Lag::view);
    match path {
        "/live" => Page::text("200 OK", "live\n"),
        "/ready" => match health::unready(server, view.as_ref()) {
            failing if failing.is_empty() => Page::text("200 OK", "ready\n"),
            failing => Page::text("503 Service Unavailable", failing.join("\n") + "\n"),
        },
        "/status" => {
            Page { status: "200 OK", content_type: "application/json", body: server.status().to_string() + "\n" }
        }
        "/metrics" => {
            let body = metrics::page(server, view.as_ref());
            Page { status: "200 OK", content_type: "text/plain; version=0.0.4; charset=utf-8", body }
        }
        "" => Page::text("405 Method Not Allowed", "only GET\n"),
        _ => Page::text("404 Not Found", "there are /live, /ready, /status and /metrics\n"),
    }
}

async fn answer(mut stream: TcpStream, page: &Page) -> std::io::Result<()> {
    let Page { status, content_type, body } = page;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
