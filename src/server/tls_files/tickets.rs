//! Stateless session tickets (RFC 5077; RFC 8446, section 4.6.1), encrypted with keys that all shards share, and all hosts
//! with the same key file.
//!
//! A ticket is the key's name (16 bytes), a nonce (12), and the session encrypted by AES-256-GCM with the name as associated
//! data. Nonces are random, so that a key may encrypt 2^32 tickets; it is replaced long before.

use std::sync::RwLock;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use data_encoding::BASE64;
use rustls::server::ProducesTickets;

use super::certificates::warn_if_world_readable;
use super::tls_error::TlsError;

const NAME_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// Bytes of a secret in the file, at least.
const SECRET_BYTES_MIN: usize = 32;
const SETTING: &str = "tls.ticket_keys_file";

/// Labels of what is derived from a secret.
const NAME_INFO: &[u8] = b"corecast ticket name";
const KEY_INFO: &[u8] = b"corecast ticket key";

pub(crate) struct Key {
    name: [u8; NAME_BYTES],
    sealer: RandomizedNonceKey,
}

impl Key {
    fn derive(secret: &[u8]) -> Self {
        let root = Salt::new(HKDF_SHA256, &[]).extract(secret);
        let fill = |info: &[u8], out: &mut [u8]| {
            let length = Length(out.len());
            root.expand(&[info], length).and_then(|okm| okm.fill(out)).expect("HKDF-SHA256 derives up to 8160 bytes");
        };
        let (mut name, mut key) = ([0; NAME_BYTES], [0; KEY_BYTES]);
        fill(NAME_INFO, &mut name);
        fill(KEY_INFO, &mut key);
        Self {
            name,
            sealer: RandomizedNonceKey::new(&AES_256_GCM, &key).expect("KEY_BYTES is the cipher's key length"),
        }
    }

    fn random() -> Self {
        let mut secret = [0; SECRET_BYTES_MIN];
        aws_lc_rs::rand::fill(&mut secret).expect("the kernel provides random bytes");
        Self::derive(&secret)
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.sealer.seal_in_place_append_tag(Aad::from(self.name), &mut sealed).ok()?;
        Some([&self.name, nonce.as_ref() as &[u8], &sealed].concat())
    }

    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = self.sealer.open_in_place(nonce, Aad::from(self.name), &mut sealed).ok()?.len();
        sealed.truncate(plain);
        Some(sealed)
    }
}

struct Length(usize);

impl aws_lc_rs::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

struct Keys {
    /// The first encrypts new tickets. Never empty.
    keys: Vec<Key>,
    /// When the first key was generated; `None` if it is from the key file.
    made: Option<Instant>,
}

pub(crate) struct Tickets {
    keys: RwLock<Keys>,
    lifetime: Duration,
}

impl Tickets {
    /// An empty `file`: keys are generated.
    pub(crate) fn new(file: &str, lifetime: Duration) -> Result<Self, TlsError> {
        let keys = match file {
            "" => Keys { keys: vec![Key::random()], made: Some(Instant::now()) },
            file => Keys { keys: read(file)?, made: None },
        };
        Ok(Self { keys: RwLock::new(keys), lifetime })
    }

    /// Tickets of keys that are not among these are rejected from now on.
    pub(crate) fn replace(&self, keys: Vec<Key>) {
        *self.keys.write().expect("never poisoned: no code panics while holding the lock") = Keys { keys, made: None };
    }

    /// A generated key is replaced after a lifetime, and accepted for one more.
    fn rotate(&self, now: Instant) {
        let due = |keys: &Keys| keys.made.is_some_and(|made| now.duration_since(made) >= self.lifetime);
        if due(&self.keys.read().expect("never poisoned: no code panics while holding the lock")) {
            let mut keys = self.keys.write().expect("never poisoned: no code panics while holding the lock");
            if due(&keys) {
                keys.keys.insert(0, Key::random());
                keys.keys.truncate(2);
                keys.made = Some(now);
            }
        }
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.rotate(Instant::now());
        self.keys.read().ok()?.keys[0].seal(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.rotate(Instant::now());
        let (name, sealed) = ticket.split_at_checked(NAME_BYTES)?;
        self.keys.read().ok()?.keys.iter().find(|key| key.name == name)?.open(sealed)
    }
}

/// The keys of a file: one a line in base64. Empty lines and lines that start with `#` are skipped.
pub(crate) fn read(file: &str) -> Result<Vec<Key>, TlsError> {
    let error = |what: String| TlsError {
        setting: SETTING,
        file: file.to_owned(),
        what,
        fix: "Each line is a key: generate one with `openssl rand -base64 32`.",
    };
    let text = std::fs::read_to_string(file).map_err(|io_error| error(io_error.to_string()))?;
    warn_if_world_readable(SETTING, file);
    let mut keys = Vec::new();
    // Some editors write a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line is a secret: the error names its number, never its content.
        let secret = BASE64.decode(line.as_bytes()).map_err(|_| error(format!("line {number} is not base64")))?;
        if secret.len() < SECRET_BYTES_MIN {
            return Err(error(format!(
                "line {number} holds {} bytes; at least {SECRET_BYTES_MIN} are needed",
                secret.len()
            )));
        }
        keys.push(Key::derive(&secret));
    }
    if keys.is_empty() { Err(error("it holds no key".into())) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn tickets(secrets: &[u8]) -> Tickets {
        let keys = secrets.iter().map(|&byte| Key::derive(&[byte; 32])).collect();
        Tickets { keys: RwLock::new(Keys { keys, made: None }), lifetime: DAY }
    }

    #[test]
    fn ticket_is_accepted_by_hosts_with_the_same_key_only() {
        let ticket = tickets(&[1]).encrypt(b"session").unwrap();
        assert_eq!(tickets(&[2, 1]).decrypt(&ticket).unwrap(), b"session");
        assert_eq!(tickets(&[2]).decrypt(&ticket), None);
        assert_ne!(tickets(&[1]).encrypt(b"session").unwrap(), ticket, "each ticket has its own nonce");
    }

    #[test]
    fn modified_ticket_is_rejected() {
        let (tickets, ticket) = (tickets(&[1]), tickets(&[1]).encrypt(b"session").unwrap());
        for index in 0..ticket.len() {
            let mut modified = ticket.clone();
            modified[index] ^= 1;
            assert_eq!(tickets.decrypt(&modified), None, "{index}");
            assert_eq!(tickets.decrypt(&ticket[..index]), None, "{index}");
        }
    }

    #[test]
    fn generated_keys_are_accepted_for_one_lifetime_more() {
        let tickets = Tickets::new("", DAY).unwrap();
        let now = Instant::now();
        let ticket = tickets.encrypt(b"session").unwrap();
        tickets.rotate(now + DAY + DAY / 2);
        assert!(tickets.decrypt(&ticket).is_some());
        tickets.rotate(now + 3 * DAY);
        assert!(tickets.decrypt(&ticket).is_none());
    }

    #[test]
    fn key_file_error_names_the_line_and_not_its_content() {
        let path = std::env::temp_dir().join(format!("corecast-tickets-{}", std::process::id()));
        let read_text = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(path.to_str().unwrap()).map(|keys| keys.len()).map_err(|error| error.to_string())
        };
        let good = BASE64.encode(&[7; 32]);
        assert_eq!(read_text(&format!("# keys\n{good}\n\n  {good}\n")), Ok(2));
        for (text, words) in [
            (format!("{good}\nhunter2!\n"), "line 2 is not base64"),
            (BASE64.encode(&[7; 16]), "line 1 holds 16 bytes"),
            ("# none\n".into(), "no key"),
        ] {
            let error = read_text(&text).unwrap_err();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
