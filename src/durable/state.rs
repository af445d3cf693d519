//! The state file: how the last process ended, and the numbers from which epochs and hashes of keys follow.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io;

use siphasher::sip::SipHasher13;

use super::codec::ReadAt;
use super::files::{File, Files};
use super::format::{FORMAT, u32_at};

const NAME: &str = "state";
const NAME_NEW: &str = "state.new";
const MAGIC: &[u8; 8] = b"CorLogSt";
/// Groups of names that share a life number.
const GROUPS: u64 = 4096;
const BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    /// The lane was closed, and its checkpoint has everything.
    pub(super) is_clean: bool,
    pub(super) boot_id: [u8; 16],
    /// Random; made with the log.
    pub(super) log: [u8; 16],
    /// How often publications may have been lost.
    pub(super) crashes: u32,
    /// How often a channel of a group of names was forgotten: its name begins another epoch then.
    lives: BTreeMap<u16, u32>,
}

/// What the state file is.
pub(super) enum Found {
    None,
    State(State),
    /// It has a format that this program does not know.
    Newer(u32),
    Corrupt,
}

impl State {
    pub(super) fn new(seed: u64, boot_id: [u8; 16]) -> Self {
        let mut log = [0; 16];
        log[..8].copy_from_slice(&mix(seed).to_le_bytes());
        log[8..].copy_from_slice(&mix(seed ^ 0x5bf0_3635_dcf9_8a1b).to_le_bytes());
        Self { is_clean: false, boot_id, log, crashes: 0, lives: BTreeMap::new() }
    }

    pub(super) fn read<F: Files>(files: &F) -> io::Result<Found> {
        let file = match files.open(NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::None),
            file => file?,
        };
        let mut bytes = vec![0; file.len()?.min(BYTES_MAX) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self::decode(&bytes))
    }

    fn decode(bytes: &[u8]) -> Found {
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Found::Corrupt };
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) || !body.starts_with(MAGIC) {
            return Found::Corrupt;
        }
        match u32_at(body, 8) {
            Some(version) if version > FORMAT => return Found::Newer(version),
            Some(_) => {}
            None => return Found::Corrupt,
        }
        Self::decode_body(&body[12..]).map_or(Found::Corrupt, Found::State)
    }

    fn decode_body(body: &[u8]) -> Option<State> {
        let (&is_clean, body) = body.split_first()?;
        let (&boot_id, body) = body.split_first_chunk()?;
        let (&log, body) = body.split_first_chunk()?;
        let (crashes, body) = body.split_first_chunk()?;
        let lives = body.chunks_exact(6).map(|life| {
            let group = u16::from_le_bytes([life[0], life[1]]);
            (group, u32_at(life, 2).unwrap_or_default())
        });
        let crashes = u32::from_le_bytes(*crashes);
        Some(Self { is_clean: is_clean == 1, boot_id, log, crashes, lives: lives.collect() })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.push(u8::from(self.is_clean));
        bytes.extend_from_slice(&self.boot_id);
        bytes.extend_from_slice(&self.log);
        bytes.extend_from_slice(&self.crashes.to_le_bytes());
        for (group, life) in &self.lives {
            bytes.extend_from_slice(&group.to_le_bytes());
            bytes.extend_from_slice(&life.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Replaces the file as a whole.
    pub(super) fn write<F: Files>(&self, files: &F) -> io::Result<()> {
        write_whole(files, NAME_NEW, NAME, &self.encode())
    }

    /// The epoch in which a channel with this name begins.
    pub(super) fn epoch_of(&self, name: &str) -> [u8; 6] {
        self.letters(name, self.life(Self::group(&self.log, name)), self.crashes)
    }

    /// An epoch for a channel whose generations are used up.
    pub(super) fn next_base(&self, name: &str) -> [u8; 6] {
        self.letters(name, u32::MAX, self.crashes)
    }

    fn letters(&self, name: &str, life: u32, crashes: u32) -> [u8; 6] {
        let mut hasher = SipHasher13::new_with_key(&self.log);
        hasher.write_u32(life);
        hasher.write_u32(crashes);
        hasher.write(name.as_bytes());
        let mut number = hasher.finish();
        std::array::from_fn(|_| {
            let letter = (number % 52) as u8;
            number /= 52;
            if letter < 26 { b'a' + letter } else { b'A' + letter - 26 }
        })
    }

    fn group(log: &[u8; 16], name: &str) -> u16 {
        let mut hasher = SipHasher13::new_with_key(log);
        hasher.write(name.as_bytes());
        (hasher.finish() % GROUPS) as u16
    }

    fn life(&self, group: u16) -> u32 {
        self.lives.get(&group).copied().unwrap_or_default()
    }

    /// A channel with offsets is forgotten. Returns the life that its name begins.
    pub(super) fn end_life(&mut self, name: &str) -> u32 {
        let group = Self::group(&self.log, name);
        let life = self.lives.entry(group).or_default();
        *life = life.wrapping_add(1);
        *life
    }

    /// As `end_life`, from a record.
    pub(super) fn ended_life(&mut self, name: &str, life: u32) {
        let group = Self::group(&self.log, name);
        let known = self.lives.entry(group).or_default();
        *known = life.max(*known);
    }
}

/// Replaces a file as a whole: after a power loss it is the old one or the new one.
pub(super) fn write_whole<F: Files>(files: &F, temporary: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = files.create(temporary, 0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    files.rename(temporary, name)?;
    files.sync_directory()
}

/// Spreads a number (the finalizer of SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_comes_back_and_no_flipped_byte_is_taken_for_one() {
        let mut state = State::new(7, [3; 16]);
        let first = state.epoch_of("news");
        state.end_life("news");
        assert_ne!(state.epoch_of("news"), first);
        let bytes = state.encode();
        assert!(matches!(State::decode(&bytes), Found::State(read) if read == state));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(matches!(State::decode(&flipped), Found::Corrupt), "byte {at}");
            assert!(matches!(State::decode(&bytes[..at]), Found::Corrupt));
        }
    }

    #[test]
    fn newer_state_is_known_as_such() {
        let mut bytes = State::new(7, [3; 16]).encode();
        bytes[8] += 1;
        let end = bytes.len() - 4;
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(State::decode(&bytes), Found::Newer(version) if version == FORMAT + 1));
    }
}
