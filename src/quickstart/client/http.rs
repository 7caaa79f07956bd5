//! An HTTP client for one request.
//!
//! It takes an open connection, which may be TLS from a given source address; a connector for `hyper-util`'s client
//! would be longer.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Gets the status and body of `path`.
pub(in crate::quickstart) async fn get(
    source: Option<IpAddr>,
    server: SocketAddr,
    path: &str,
) -> io::Result<(u16, String)> {
    get_over(super::connect(source, server).await?, &server.to_string(), path).await
}

/// Gets the status and body of `path` at `authority`, over an open connection.
pub(in crate::quickstart) async fn get_over<S>(stream: S, authority: &str, path: &str) -> io::Result<(u16, String)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::get(path).header(HOST, authority).body(Empty::<Bytes>::new());
    let exchange = async {
        let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    // The connection future does the I/O and runs until its sender is dropped, so the request ends first.
    tokio::select! {
        biased;
        answer = exchange => answer,
        ended = connection => Err(ended.err().map_or_else(|| io::ErrorKind::UnexpectedEof.into(), io::Error::other)),
    }
}
