//! Lays the functions that a serving gateway runs side by side in the binary.
//!
//! The binary is many commands, fronts and stand-ins, of which a gateway uses a fifth. The linker puts functions in the order
//! of their modules, so that fifth is strewn over all of it, and as the kernel maps 64 KiB around every page that is
//! touched, two thirds of the program end up resident. `layout/served.ld`, which `layout/train` writes, names the functions;
//! what it doesn't name stays where it was. Nothing depends on it but memory and the time that a start takes.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=layout/served.ld");
    println!("cargo:rerun-if-env-changed=PLGW_LAYOUT");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // GNU ld and lld understand it; names are those of optimised builds. `PLGW_LAYOUT=0` leaves it out.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("PROFILE", "release") && !is("PLGW_LAYOUT", "0") {
        let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let script = Path::new(&root).join("layout/served.ld");
        if script.exists() {
            println!("cargo:rustc-link-arg-bin=plgw=-Wl,-T,{}", script.display());
        }
    }
}
