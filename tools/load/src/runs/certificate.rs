//! The subcommand `certificate`: a self-signed certificate for the names of this machine, for a server that is measured over TLS.

use crate::{RunError, args};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::fs;
use std::path::Path;

/// Writes `cert.pem` and `key.pem` (ECDSA, P-256) into an existing folder.
pub fn run(args: &args::Certificate) -> Result<u8, RunError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
    for (name, text) in [("cert.pem", cert.pem()), ("key.pem", signing_key.serialize_pem())] {
        let file = Path::new(&args.folder).join(name);
        fs::write(&file, text).map_err(|e| RunError(format!("{}: {e}", file.display())))?;
        println!("{}", file.display());
    }
    Ok(0)
}
