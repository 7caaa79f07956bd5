//! Reads the PROXY protocol header on ports that require one.

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::data::proxy_protocol::{Header, Parsed, parse};

/// The signature of version 2, and the length of its fixed part.
const V2_FIXED: usize = 16;

/// Why the header cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHeader {
    #[error("cannot read the PROXY protocol header")]
    Io(#[from] std::io::Error),
    #[error("the connection ended within the PROXY protocol header, after {0} bytes")]
    Cut(usize),
    #[error("{0}")]
    Invalid(String),
}

/// Reads exactly the header from the start of a connection.
pub(super) async fn take_header<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Header, NoHeader> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes) {
            Parsed::Header(header) => return Ok(header),
            Parsed::Invalid(reason) => return Err(NoHeader::Invalid(reason)),
            Parsed::Incomplete => {
                let before = bytes.len();
                stream.take(wanted(&bytes) as u64).read_to_end(&mut bytes).await?;
                if bytes.len() == before {
                    return Err(NoHeader::Cut(before));
                }
            }
        }
    }
}

/// The number of bytes that can be read without reading past the header.
fn wanted(bytes: &[u8]) -> usize {
    match bytes {
        [] => 1,
        // A version 1 line, whose length is not known in advance.
        [b'P', ..] => 1,
        [b'\r', ..] if bytes.len() < V2_FIXED => V2_FIXED - bytes.len(),
        _ => {
            let length = bytes.get(14..16).map_or(0, |length| usize::from(u16::from_be_bytes([length[0], length[1]])));
            (V2_FIXED + length).saturating_sub(bytes.len()).max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::data::proxy_protocol::{encode, local};

    #[tokio::test]
    async fn exactly_the_header_is_read() {
        let (client, target) = ("10.0.3.9:51222".parse().unwrap(), "10.0.30.194:1027".parse().unwrap());
        let headers: [(&[u8], Option<SocketAddr>); 3] = [
            (&encode(client, target, None), Some(client)),
            (&local(), None),
            (b"PROXY TCP4 10.0.3.9 10.0.30.194 51222 1027\r\n", Some(client)),
        ];
        for (header, source) in headers {
            let whole = [header, b"rest"].concat();
            let mut stream = whole.as_slice();
            assert_eq!(take_header(&mut stream).await.expect("a header").source, source);
            assert_eq!(stream, b"rest");
            let mut cut = &header[..header.len() - 1];
            assert!(matches!(take_header(&mut cut).await, Err(NoHeader::Cut(_))));
        }
        let hello = [0x3d, 0, 0, 0, 1, 0, 0, 0].as_slice();
        assert!(matches!(take_header(&mut { hello }).await, Err(NoHeader::Invalid(_))));
    }
}
