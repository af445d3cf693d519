//! Deltas of the library that clients use, what is not a delta, and what holds for all of ours.

use super::*;

const MAX: usize = 1 << 20;

/// Source, target, and the delta that the JavaScript library makes of them.
const VECTORS: &[(&str, &str, &[u8])] = &[
    ("", "", b"0\n0:0;"),
    ("", "abc", b"3\n3:abc1XObC0;"),
    ("0123456789abcdef0123456789abcdef", "0123456789abcdefXX0123456789abcdef", b"Y\nG@0,2:XXG@0,27Znxq;"),
    (
        r#"{"price":101.25,"volume":120034,"name":"Example Incorporated","currency":"USD","open":true}"#,
        r#"{"price":101.50,"volume":120997,"name":"Example Incorporated","currency":"USD","open":true}"#,
        b"1R\nD@0,2:50D@F,3:997x@V,zMVHw;",
    ),
    (
        "the quick brown fox jumps over the lazy dog, and the lazy dog sleeps on",
        "and the lazy dog sleeps on; the quick brown fox jumps over the lazy dog",
        b"17\nQ@i,2:; g@0,3lAjBW;",
    ),
    // It cuts a character in two.
    (
        "\"übermäßige Größe: ein längerer Text mit Umlauten, ä ö ü\"",
        "\"übermäßige Größe: ein längerer Text mit Umlauten, ö ö ü\"",
        b"12\nv@0,8:\xb6 \xc3\xb6 \xc3\xbc\"2r_9iM;",
    ),
];

fn created(source: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let shorter = create(source, target, &mut out);
    let delta = out.split_off(6);
    assert_eq!(out, b"before");
    assert_eq!(shorter, !delta.is_empty());
    assert!(delta.len() < target.len() || !shorter);
    shorter.then_some(delta)
}

#[test]
fn deltas_of_the_clients_library_are_understood() {
    for (source, target, delta) in VECTORS {
        assert_eq!(apply(source.as_bytes(), delta, MAX).as_deref(), Ok(target.as_bytes()));
    }
}

#[test]
fn ours_are_as_short_as_those_of_the_clients_library() {
    for (source, target, theirs) in VECTORS {
        let ours = created(source.as_bytes(), target.as_bytes());
        let length = ours.as_ref().map_or(target.len(), Vec::len);
        assert!(length <= theirs.len() + 2, "{target}: {length} for {}", theirs.len());
        if let Some(ours) = ours {
            assert_eq!(apply(source.as_bytes(), &ours, MAX).as_deref(), Ok(target.as_bytes()));
        }
    }
}

#[test]
fn what_is_no_delta_is_refused_for_what_it_is() {
    let source = b"0123456789";
    for (delta, fault) in [
        (&b""[..], Malformed::Length),
        (b"4", Malformed::Length),
        (b"\n", Malformed::Number),
        (b"~~~~~~\n", Malformed::Number),
        (b"4 4@0,", Malformed::Command),
        (b"4\n4@0,", Malformed::Length),
        (b"4\n4@0;", Malformed::Command),
        (b"4\n4!0,", Malformed::Command),
        (b"4\n@0,", Malformed::Number),
        (b"B\nB@0,0;", Malformed::Range),
        (b"4\n4@3~~~~~,0;", Malformed::Range),
        (b"4\n4:abc", Malformed::Range),
        (b"4\n5@0,0;", Malformed::Size),
        (b"4\n3:abc0;", Malformed::Size),
        (b"3~~~~~\n0;", Malformed::Size),
        (b"3\n3:abc1XObC1;", Malformed::Checksum),
        (b"3\n3:abc1XObC0;0;", Malformed::Length),
    ] {
        assert_eq!(apply(source, delta, MAX), Err(fault), "{}", delta.escape_ascii());
    }
    assert_eq!(apply(b"", b"3\n3:abc1XObC0;", 2), Err(Malformed::Size));
}

#[test]
fn a_delta_cut_anywhere_is_none() {
    for (source, _, delta) in VECTORS {
        for end in 0..delta.len() {
            assert!(apply(source.as_bytes(), &delta[..end], MAX).is_err());
        }
    }
}

#[test]
fn whatever_changed_the_target_comes_back() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2_000 {
        let letters = [2, 30, 256][random.usize(..3)];
        let source: Vec<u8> = (0..random.usize(..1_000)).map(|_| random.u32(..letters) as u8).collect();
        let mut target = Vec::new();
        for _ in 0..random.usize(..6) {
            if random.bool() {
                let from = random.usize(..=source.len());
                target.extend_from_slice(&source[from..random.usize(from..=source.len())]);
            } else {
                target.extend((0..random.usize(..40)).map(|_| random.u32(..letters) as u8));
            }
        }
        if let Some(mut delta) = created(&source, &target) {
            assert_eq!(apply(&source, &delta, MAX).as_ref(), Ok(&target));
            let at = random.usize(..delta.len());
            delta[at] ^= 1 << random.u32(..8);
            _ = apply(&source, &delta, MAX);
        }
    }
}

#[test]
fn a_delta_of_text_is_text() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let letters = ['a', 'ä', 'ö', 'Ö', '語', '誠', '😀', '😁'];
    for _ in 0..2_000 {
        let source: String = (0..random.usize(..200)).map(|_| letters[random.usize(..letters.len())]).collect();
        let change = |c| if random.u8(..20) == 0 { letters[random.usize(..letters.len())] } else { c };
        let target: String = source.chars().map(change).collect();
        if let Some(delta) = created(source.as_bytes(), target.as_bytes()) {
            assert!(std::str::from_utf8(&delta).is_ok());
            assert_eq!(apply(source.as_bytes(), &delta, MAX).as_deref(), Ok(target.as_bytes()));
        }
    }
}
