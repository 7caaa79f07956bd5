//! A saved state document: as it is, and with the checksum that makes its content readable.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use plgw::control::store::decode;
use ring::digest::{SHA256, digest};

fuzz_target!(|content: &[u8]| {
    let mut sealed = content.to_vec();
    let checksum = digest(&SHA256, content).as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    });
    sealed.extend_from_slice(format!("\"sha256\":\"{checksum}\"}}\n").as_bytes());
    for bytes in [content, &sealed] {
        if let Ok(document) = decode(bytes) {
            assert_eq!(decode(&document.encode()), Ok(document), "what was read is written so that it reads the same");
        }
    }
});
