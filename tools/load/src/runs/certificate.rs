//! `certificate`: one for this machine's own names and its key, for a server that is to be measured over TLS.

use crate::args;
use crate::runs::Refusal;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::fs;
use std::path::Path;

/// Writes `cert.pem` and `key.pem` (ECDSA, P-256) into a folder that exists.
pub fn run(args: &args::Certificate) -> Result<u8, Refusal> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
    for (name, text) in [("cert.pem", cert.pem()), ("key.pem", signing_key.serialize_pem())] {
        let file = Path::new(&args.folder).join(name);
        fs::write(&file, text).map_err(|e| Refusal(format!("{}: {e}", file.display())))?;
        println!("{}", file.display());
    }
    Ok(0)
}
