//! The subcommand `certificate`: a self-signed certificate for the names of this machine, for a server that is measured over TLS.

use crate::{RunError, args, files};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::path::Path;

/// Writes `cert.pem` and `key.pem` (ECDSA, P-256) into an existing folder.
pub fn run(args: &args::Certificate) -> Result<u8, RunError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
    let written = [("cert.pem", cert.pem(), files::READABLE), ("key.pem", signing_key.serialize_pem(), files::SECRET)];
    for (name, text, mode) in written {
        let file = Path::new(&args.folder).join(name);
        files::replace(&file, &text, mode).map_err(|e| RunError(format!("{}: {e}", file.display())))?;
        println!("{}", file.display());
    }
    Ok(0)
}
