//! Checks UTF-8 while it arrives: at most three bytes are carried from one piece to the next.
//!
//! A piece fails at the first byte after which the text cannot become valid any more (RFC 6455, section 8.1; Autobahn 6.4).
//! `std` reports that as an error with a length.

/// The incomplete character at the end of a text: `carry[..length]`, `length <= 3`, is a prefix of a valid character.
#[derive(Clone, Copy, Default)]
pub(super) struct Utf8 {
    carry: [u8; 3],
    length: u8,
}

/// The text cannot become valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Invalid;

impl Utf8 {
    /// True if the text so far ends between two characters.
    #[inline]
    pub fn is_whole(self) -> bool {
        self.length == 0
    }

    /// Takes the next piece. `ascii` is true only if the caller knows that every byte of `piece` is ASCII.
    #[inline]
    pub fn feed(&mut self, piece: &[u8], ascii: bool) -> Result<(), Invalid> {
        if self.length == 0 && ascii {
            return Ok(());
        }
        self.feed_any(piece)
    }

    fn feed_any(&mut self, piece: &[u8]) -> Result<(), Invalid> {
        let rest = self.complete_carry(piece)?;
        if rest.is_empty() {
            return Ok(());
        }
        let (whole, end) = rest.split_at(rest.len() - open_end(rest));
        if !is_valid(whole) {
            return Err(Invalid);
        }
        self.carry_over(end)
    }

    /// Adds bytes of `piece` to the carried character until it is whole; returns the rest of `piece`.
    fn complete_carry<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], Invalid> {
        if self.length == 0 {
            return Ok(piece);
        }
        let carried = usize::from(self.length);
        let missing = character_bytes(self.carry[0]) - carried;
        let taken = missing.min(piece.len());
        let mut character = [0; 4];
        character[..carried].copy_from_slice(&self.carry[..carried]);
        character[carried..carried + taken].copy_from_slice(&piece[..taken]);
        let character = &character[..carried + taken];
        if taken < missing {
            self.carry_over(character)?;
        } else if is_valid(character) {
            self.length = 0;
        } else {
            return Err(Invalid);
        }
        Ok(&piece[taken..])
    }

    /// Carries `end`, zero to three bytes, which must be the beginning of a character.
    fn carry_over(&mut self, end: &[u8]) -> Result<(), Invalid> {
        debug_assert!(end.len() <= 3);
        if let Err(error) = std::str::from_utf8(end)
            && error.error_len().is_some()
        {
            return Err(Invalid);
        }
        self.carry[..end.len()].copy_from_slice(end);
        self.length = end.len() as u8;
        Ok(())
    }
}

/// True if a whole text is valid.
#[inline]
pub fn is_valid(text: &[u8]) -> bool {
    simdutf8::basic::from_utf8(text).is_ok()
}

/// The number of bytes at the end of `text` that begin a character without ending it, 0 to 3. They may be invalid.
fn open_end(text: &[u8]) -> usize {
    for back in 1..=text.len().min(3) {
        let byte = text[text.len() - back];
        if byte >= 0xc0 {
            return if character_bytes(byte) > back { back } else { 0 };
        }
        if byte < 0x80 {
            return 0;
        }
    }
    0
}

/// The length of the character that begins with `first`, a byte from 0xc0 on.
fn character_bytes(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of the shortest prefix that cannot become valid.
    fn fails_at(text: &[u8]) -> Option<usize> {
        (1..=text.len()).find(|end| std::str::from_utf8(&text[..*end]).is_err_and(|error| error.error_len().is_some()))
    }

    fn feed_all(pieces: &[&[u8]]) -> Result<Utf8, Invalid> {
        let mut utf8 = Utf8::default();
        for piece in pieces {
            utf8.feed(piece, piece.is_ascii())?;
        }
        Ok(utf8)
    }

    fn check(text: &[u8]) {
        let fails = fails_at(text);
        let mut utf8 = Utf8::default();
        for at in 0..text.len() {
            let result = utf8.feed(&text[at..=at], text[at].is_ascii());
            assert_eq!(result.is_err(), fails == Some(at + 1), "{text:x?} at {at}");
            if result.is_err() {
                break;
            }
        }
        let whole = std::str::from_utf8(text).is_ok();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                match feed_all(&pieces) {
                    Ok(utf8) => assert!(fails.is_none() && utf8.is_whole() == whole, "{text:x?} {first} {second}"),
                    Err(Invalid) => assert!(fails.is_some(), "{text:x?} {first} {second}"),
                }
            }
        }
    }

    #[test]
    fn utf8_fails_at_the_first_invalid_byte_wherever_it_is_cut() {
        let valid = ["", "a", "κόσμε", "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}", "naïve 日本 🦀."];
        for text in valid {
            check(text.as_bytes());
            assert!(feed_all(&[text.as_bytes()]).is_ok_and(Utf8::is_whole));
        }
        const BEYOND_THE_LAST: &[u8] = b"\xce\xba\xf4\x90\x80\x80ed";
        const SURROGATE: &[u8] = b"ab\xed\xa0\x80ed";
        const OVERLONG_TWO: &[u8] = b"a\xc0\xaf";
        const OVERLONG_THREE: &[u8] = b"a\xe0\x80\xaf";
        const OVERLONG_FOUR: &[u8] = b"a\xf0\x80\x80\xaf";
        const LONE_CONTINUATION: &[u8] = b"a\x80b";
        const CUT_BY_ASCII: &[u8] = b"\xe2\x82a";
        const CUT_BY_A_START: &[u8] = b"\xe2\x82\xe2\x82\xac";
        const FIVE_BYTES: &[u8] = b"\xf8\x88\x80\x80\x80";
        const FE_AND_FF: &[u8] = b"\xfe\xff";
        const UNFINISHED: &[u8] = b"abc\xf0\x9f\xa6";
        for text in [
            BEYOND_THE_LAST,
            SURROGATE,
            OVERLONG_TWO,
            OVERLONG_THREE,
            OVERLONG_FOUR,
            LONE_CONTINUATION,
            CUT_BY_ASCII,
            CUT_BY_A_START,
            FIVE_BYTES,
            FE_AND_FF,
            UNFINISHED,
        ] {
            check(text);
        }
    }

    #[test]
    fn utf8_agrees_with_std_on_every_pair_of_bytes() {
        for first in 0x7f..=255u8 {
            for second in 0..=255u8 {
                check(&[first, second]);
                check(&[b'x', first, second, 0x80]);
            }
        }
    }
}
