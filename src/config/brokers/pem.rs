//! PEM from a setting: the text itself, the text in base64, or a file.

use std::fs::File;
use std::io::Read;

use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Certificates of an authority are a few KiB, those of a whole system a few hundred.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

const BEGIN: &str = "-----BEGIN ";

/// What the PEM must contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    Certificates,
    Key,
}

/// Whether files are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Files {
    Read,
    /// A path is left as it is: the file may be on another host.
    Skip,
}

/// The PEM of a setting. Errors: what is wrong, without the value, which may be a key.
pub(crate) fn load(value: &str, content: Content, files: Files) -> Result<String, String> {
    let pem = match (inline(value), files) {
        (Some(pem), _) => pem,
        (None, Files::Read) => read(value)?,
        (None, Files::Skip) => return Ok(value.to_owned()),
    };
    let (is_there, missing) = match content {
        Content::Certificates => {
            let mut all = CertificateDer::pem_slice_iter(pem.as_bytes());
            // One that cannot be read is an error even after one that can.
            (all.next().is_some_and(|first| first.is_ok()) && all.all(|one| one.is_ok()), "certificate")
        }
        Content::Key => (PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_ok(), "private key"),
    };
    if is_there { Ok(pem) } else { Err(format!("it contains no {missing} that can be read")) }
}

/// PEM that is in the value itself.
fn inline(value: &str) -> Option<String> {
    if value.contains(BEGIN) {
        // Variables of some platforms have no line ends.
        return Some(value.replace("\\r", "").replace("\\n", "\n"));
    }
    let packed: Vec<u8> = value.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = BASE64.decode(&packed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.filter(|text| text.contains(BEGIN))
}

fn read(path: &str) -> Result<String, String> {
    let unreadable =
        |error: std::io::Error| format!("it is neither PEM nor base64, and no file that can be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_read_from_text_base64_and_files() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let path = std::env::temp_dir().join(format!("corecast-{}-pem.pem", std::process::id()));
        std::fs::write(&path, &certificate).unwrap();
        for value in [
            certificate.clone(),
            certificate.replace('\n', "\\n"),
            BASE64.encode(certificate.as_bytes()),
            path.to_str().unwrap().to_owned(),
        ] {
            let pem = load(&value, Content::Certificates, Files::Read).unwrap_or_else(|what| panic!("{value}: {what}"));
            assert_eq!(pem.lines().collect::<Vec<_>>(), certificate.lines().collect::<Vec<_>>());
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(load("/none.pem", Content::Key, Files::Skip).unwrap(), "/none.pem");
        load(&key, Content::Key, Files::Read).unwrap();
        assert!(load(&key, Content::Certificates, Files::Read).unwrap_err().contains("no certificate"));
        assert!(load(&certificate, Content::Key, Files::Read).unwrap_err().contains("no private key"));
        for bad in ["secret", path.to_str().unwrap(), "", "/", &BASE64.encode(b"secret")] {
            assert!(!load(bad, Content::Key, Files::Read).unwrap_err().contains("secret"), "{bad}");
        }
    }
}
