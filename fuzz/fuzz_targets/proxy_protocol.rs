//! The PROXY protocol header at the start of a connection, from sources that a config trusts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plgw::data::proxy_protocol::{Parsed, parse};

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse(bytes);
    if let Parsed::Header(header) = &parsed {
        assert!(header.len <= bytes.len(), "a header does not end behind the bytes that were read");
        assert_eq!(parse(&bytes[..header.len]), parsed, "payload does not change the header before it");
    }
    // A connection is read in pieces: more bytes must not turn an answer into another.
    let early = parse(&bytes[..bytes.len() / 2]);
    assert!(early == Parsed::Incomplete || early == parsed, "{early:?} became {parsed:?}");
});
